"""Values that a runner holds: tasks are handed over before their inputs are made, and the flow sees no value it did not ask for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from prefect_core import allow_failure, context, flow, runtime, task
from prefect_core.references import Reference
from prefect_core.states import State
from prefect_core.testing.surroundings import Harness, harness
from tests.contract.holding import HoldingTaskRunner

LARGE = 200_000


@pytest.fixture(autouse=True)
def world() -> Iterator[Harness]:
    with harness() as world:
        yield world


def runner() -> HoldingTaskRunner:
    around = context.current()
    assert around is not None
    found = around.dispatcher.runner
    assert isinstance(found, HoldingTaskRunner)
    return found


gate = threading.Event()
tries: list[int] = []


def pass_gate() -> None:
    """Wait until the flow has submitted all; found by name, since what is in it can't travel."""
    gate.wait(10)


def note_try() -> int:
    tries.append(1)
    return len(tries)


@task
def held(number: int) -> bytes:
    gate.wait(10)
    return bytes([number]) * LARGE


@task
def length(data: Any) -> int:
    return len(data)


@task
def longer(data: bytes) -> bytes:
    return data + b"x"


@pytest.fixture(autouse=True)
def closed_gate() -> Iterator[None]:
    gate.clear()
    tries.clear()
    yield
    gate.set()


def test_chain_is_handed_over_at_once_and_its_values_stay_where_they_are(world: Harness) -> None:
    @flow(task_runner=HoldingTaskRunner())
    def chain() -> tuple[int, int, int, bool]:
        last = held.submit(7)
        for _ in range(3):
            last = longer.submit(last)
        size = length.submit(last)
        early = runner().early
        gate.set()
        return size.result(), early, runner().fetched, isinstance(last.state.data, Reference)

    size, early, fetched, is_afar = chain()
    assert (size, early, fetched, is_afar) == (LARGE + 3, 4, 0, True)
    assert world.state_names("longer-2") == ["Pending", "Running", "Completed"]


def test_futures_at_any_depth_and_in_wait_for_are_handed_over() -> None:
    @task
    def total(nested: dict[str, list[Any]], single: bytes) -> int:
        return sum(len(part) for part in nested["parts"]) + len(single)

    @flow(task_runner=HoldingTaskRunner())
    def deep() -> tuple[int, int]:
        parts = [held.submit(number) for number in range(2)]
        after = held.submit(9)
        result = total.submit({"parts": [parts[0], parts[1]]}, parts[0], wait_for=[after])
        early = runner().early
        gate.set()
        return result.result(), early

    assert deep() == (3 * LARGE, 3)


def test_dependent_of_a_failure_ends_not_ready_without_its_body(world: Harness) -> None:
    bodies: list[str] = []

    @task
    def failing() -> bytes:
        pass_gate()
        raise ValueError("no")

    @task
    def behind(data: bytes) -> int:
        bodies.append("behind")
        return len(data)

    @flow(task_runner=HoldingTaskRunner())
    def failure() -> tuple[State, State]:
        first = failing.submit()
        second = behind.submit(first)
        third = behind.submit(second)
        gate.set()
        for future in (second, third):
            future.wait()
        return second.state.name, third.state.name

    assert failure() == ("NotReady", "NotReady")
    assert bodies == []
    assert world.state_names("behind-0") == ["Pending", "NotReady"]
    assert world.state_names("behind-1") == ["Pending", "NotReady"]


def test_dependent_of_a_retried_task_is_handed_over_again_and_runs_once(world: Harness) -> None:
    @task(retries=1)
    def second_time() -> bytes:
        pass_gate()
        if note_try() == 1:
            raise ValueError("once")
        return b"y" * LARGE

    @flow(task_runner=HoldingTaskRunner())
    def retried() -> int:
        future = length.submit(second_time.submit())
        gate.set()
        return future.result()

    assert retried() == LARGE
    assert world.state_names("length-0") == ["Pending", "Running", "Completed"]
    assert [row.attempt for row in world.store.attempts(_key(world, "length-0"))] == [1]


def test_allowed_failure_is_waited_for_and_given() -> None:
    @task
    def failing() -> None:
        raise ValueError("no")

    @task
    def told(error: Any) -> str:
        return str(error)

    @flow(task_runner=HoldingTaskRunner())
    def allowing() -> str:
        return told.submit(allow_failure(failing.submit())).result()

    assert allowing() == "no"


def test_value_is_fetched_once_for_who_asks_and_for_another_runner() -> None:
    @flow(task_runner=HoldingTaskRunner())
    def asking() -> tuple[int, int, int]:
        gate.set()
        future = held.submit(1)
        elsewhere = length.with_options(task_runner="concurrent").submit(future).result()
        return len(future.result()), elsewhere, runner().fetched

    assert asking() == (LARGE, LARGE, 1)


def test_what_a_flow_returns_is_fetched_before_its_runner_stops() -> None:
    @flow(task_runner=HoldingTaskRunner())
    def returning() -> Any:
        gate.set()
        return [held.submit(1), held.submit(2)]

    assert [len(state.result()) for state in returning(return_state=True).data] == [LARGE, LARGE]


def test_stored_values_and_hooks_see_values_and_no_references(world: Harness) -> None:
    seen: list[int] = []

    def note(task: Any, run: Any, state: State) -> None:
        seen.append(len(runtime.task_run.parameters["data"]))

    @task(persist_result=True, on_completion=[note])
    def kept(data: bytes) -> bytes:
        return data + b"!"

    @flow(task_runner=HoldingTaskRunner())
    def storing() -> int:
        gate.set()
        return len(kept.submit(held.submit(1)).result())

    assert storing() == LARGE + 1
    assert seen == [LARGE]


def test_news_of_a_long_body_come_before_its_end(world: Harness) -> None:
    @task(log_prints=True)
    def long() -> None:
        print("first")
        pass_gate()
        print("last")

    @flow(task_runner=HoldingTaskRunner())
    def waiting() -> list[str]:
        future = long.submit()
        deadline = time.monotonic() + 5
        while future.state.name != "Running" and time.monotonic() < deadline:
            time.sleep(0.01)
        before = [row.message for row in world.store.logs(future.task_run.key)]
        gate.set()
        future.wait()
        return before

    assert "first" in waiting()
    assert [row.message for row in world.store.logs(_key(world, "long-0"))][:2] == ["first", "last"]


def _key(world: Harness, name: str) -> int:
    return next(row.key for row in world.store.task_runs() if row.name == name)
