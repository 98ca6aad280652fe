"""What travels to Ray and back: large values stay there, references of a user are resolved, what can't travel is named."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from prefect_core import flow, task
from prefect_core.errors import MissingResult, SerializationError
from prefect_core.references import Reference
from prefect_core.states import State
from prefect_core.task_runners import RayTaskRunner, remote_options
from prefect_runners import ray_cluster

pytestmark = pytest.mark.usefixtures("borrowed")
MEGABYTE = 1 << 20


@task
def make(megabytes: int, fill: int = 1) -> Any:
    return np.full(megabytes * MEGABYTE // 8, fill, dtype="int64")


@task
def total(*arrays: Any) -> int:
    return int(sum(array.sum() for array in arrays))


def own_megabytes() -> float:
    """Return the memory of this process that it shares with nobody."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


def test_large_values_move_between_tasks_and_not_through_the_flow_s_process() -> None:
    @flow(task_runner="ray")
    def run() -> tuple[int, float]:
        before = own_megabytes()
        totals = [total.submit(make.submit(8, number)) for number in range(24)]
        return sum(one.result() for one in totals), own_megabytes() - before

    value, growth = run()
    assert value == sum(range(24)) * MEGABYTE
    assert growth < 48


def test_a_large_value_is_read_where_ray_has_it_and_can_not_be_changed_there() -> None:
    @flow(task_runner="ray")
    def run() -> Any:
        future = make.submit(4)
        assert isinstance(future.wait().data, Reference)
        return future.result()

    array = run()
    assert not array.flags.writeable
    assert array.sum() == 4 * MEGABYTE // 8


def test_a_large_value_that_nobody_asked_for_in_time_is_gone_with_a_message_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[Any] = []

    @flow(task_runner="ray")
    def run() -> None:
        kept.append(make.submit(1))

    run()
    monkeypatch.setattr(ray_cluster, "connection", lambda ray: "another")
    with pytest.raises(MissingResult, match="persist_result=True"):
        kept[0].result()


def test_references_of_a_user_are_resolved_at_any_depth() -> None:
    @task
    def look(direct: Any, deep: Any, made: int) -> Any:
        return direct, deep, made

    @task
    def one() -> int:
        return 1

    @flow(task_runner="ray")
    def run() -> Any:
        put = ray.put({"a": 1})
        return look.submit(put, [{"deeper": (put, ray.put(b""))}], one.submit()).result()

    assert run() == ({"a": 1}, [{"deeper": ({"a": 1}, b"")}], 1)


def test_references_of_a_user_are_refused_by_runners_that_know_no_ray() -> None:
    @task
    def look(value: Any) -> Any:
        return value

    @flow(task_runner="processes:1")
    def elsewhere() -> State:
        return look.submit([ray.put(1)], return_state=True)

    @flow(task_runner="ray")
    def run() -> int:
        return look.submit(1).result()

    assert run() == 1
    state = elsewhere(return_state=True).data
    assert isinstance(state.data, SerializationError)
    assert "ObjectRef" in state.message


def test_a_large_result_that_can_not_be_pickled_is_an_error_of_its_task_and_its_logs_are_kept() -> None:
    @task
    def give() -> Any:
        return [b"x" * MEGABYTE, threading.Lock()]

    @flow(task_runner="ray")
    def run() -> State:
        return give.submit(return_state=True)

    state = run(return_state=True).data
    assert state.is_failed()
    assert isinstance(state.data, SerializationError)
    assert "give" in state.message
    assert "lock" in state.message


def test_a_value_that_can_not_be_loaded_is_an_error_of_the_task_that_needs_it() -> None:
    class Local:
        def __reduce__(self) -> Any:
            return int, ("no number",)

    @task
    def give() -> Any:
        return [b"x" * MEGABYTE, Local()]

    @task
    def take(value: Any) -> int:
        return 1

    @flow(task_runner="ray")
    def run() -> State | None:
        return take.submit(give.submit()).wait()

    state = run(return_state=True).data
    assert state.is_failed()
    assert "no number" in state.message


def test_options_of_ray_hold_for_what_is_submitted_in_their_block_and_inner_ones_win() -> None:
    @task
    def look() -> Any:
        context = ray.get_runtime_context()
        return context.get_assigned_resources().get("CPU"), context.get_task_name()

    @flow(task_runner=RayTaskRunner())
    def run() -> Any:
        with remote_options(num_cpus=2, memory=1000):
            outer = look.submit()
            with remote_options(num_cpus=0.5):
                inner = look.submit()
        return outer.result(), inner.result(), look.submit().result()

    assert run() == ((2.0, "look"), (0.5, "look"), (1.0, "look"))


def test_the_resources_of_a_task_are_those_of_ray() -> None:
    @task(resources={"cpu": 0.5, "memory": "1kB"})
    def look() -> Any:
        return ray.get_runtime_context().get_assigned_resources()

    @flow(task_runner="ray")
    def run() -> Any:
        return look.submit().result()

    assert run()["CPU"] == 0.5


def test_what_the_engine_decides_can_not_be_an_option() -> None:
    with pytest.raises(ValueError, match="max_retries"), remote_options(max_retries=3):
        pass


def test_bodies_run_in_ray_s_workers() -> None:
    @task
    def where() -> int:
        return os.getpid()

    @flow(task_runner="ray:auto")
    def run() -> int:
        return where.submit().result()

    assert run() != os.getpid()


def test_a_task_may_return_a_large_value_after_many_small_ones() -> None:
    @task
    def repeat(times: int) -> bytes:
        return b"x" * times

    @task
    def length(*values: bytes) -> int:
        return sum(map(len, values))

    @flow(task_runner="ray")
    def run() -> tuple[int, int, int]:
        small = [repeat.submit(1) for _ in range(20)]
        assert [one.result() for one in small] == [b"x"] * 20
        large, again = repeat.submit(MEGABYTE), repeat.submit(1)
        both = length.submit(large, again)
        return both.result(), len(large.result()), length.submit(repeat.submit(MEGABYTE), small[0]).result()

    assert run() == (MEGABYTE + 1, MEGABYTE, MEGABYTE + 1)


def test_what_follows_a_small_task_that_fails_is_not_ready() -> None:
    @task
    def divide(number: int) -> float:
        return 1 / number

    @task
    def follow(value: float) -> float:
        return value

    @flow(task_runner="ray")
    def run() -> list[State | None]:
        assert [one.result() for one in [divide.submit(1) for _ in range(20)]] == [1] * 20
        return [follow.submit(divide.submit(number)).wait() for number in (1, 0)]

    states: Any = run(return_state=True).data
    assert [state.name for state in states] == ["Completed", "NotReady"]
