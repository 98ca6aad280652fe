"""Resources and priorities on local runners, and attempts that are made again because their worker was lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prefect_core import flow, task
from prefect_core.errors import RunnerError, WorkerLost
from prefect_core.placement import checked_resources
from prefect_core.states import State
from prefect_core.task_runners import ConcurrentTaskRunner, ProcessPoolTaskRunner
from prefect_core.testing.surroundings import Harness, harness


@pytest.fixture(autouse=True)
def world() -> Iterator[Harness]:
    with harness() as world:
        yield world


class Meter:
    """The most that was in use at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = 0

    def use(self, amount: int) -> None:
        with self.lock:
            self.now += amount
            self.most = max(self.most, self.now)
        time.sleep(0.005)
        with self.lock:
            self.now -= amount


@pytest.mark.parametrize("is_async", [False, True])
def test_no_more_than_there_is_is_used_at_once_and_all_run(is_async: bool) -> None:
    meter = Meter()

    def body(amount: int) -> int:
        meter.use(amount)
        return amount

    async def abody(amount: int) -> int:
        return body(amount)

    fn: Any = abody if is_async else body
    small, large = task(fn, resources={"gpu": 1}), task(fn, resources={"gpu": 3})

    @flow(task_runner=ConcurrentTaskRunner(resources={"gpu": 4}))
    def used() -> int:
        futures = [(large if number % 5 == 0 else small).submit(3 if number % 5 == 0 else 1) for number in range(40)]
        return sum(future.result() for future in futures)

    assert used() == 8 * 3 + 32
    assert 0 < meter.most <= 4


def test_sizes_are_told_in_words() -> None:
    assert checked_resources({"memory": "8GB", "cache": "1.5 KiB", "gpu": 0.5}) == {
        "memory": 8e9,
        "cache": 1536,
        "gpu": 0.5,
    }


@pytest.mark.parametrize(
    ("resources", "error"),
    [
        ({"gpu": -1}, ValueError),
        ({"gpu": "many"}, ValueError),
        ({"gpu": True}, TypeError),
        ([1], TypeError),
        ({1: 1}, TypeError),
    ],
)
def test_what_is_no_amount_is_refused(resources: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="resources"):
        task(len, resources=resources)
    with pytest.raises(error, match="resources"):
        ConcurrentTaskRunner(resources=resources)


def test_more_than_the_whole_is_an_error_of_that_task() -> None:
    @task(resources={"gpu": 2})
    def greedy() -> None: ...

    @flow(task_runner=ConcurrentTaskRunner(resources={"gpu": 1}))
    def asking() -> State:
        return greedy.submit().wait()

    state = asking(return_state=True)
    assert state.is_failed()
    with pytest.raises(RunnerError, match=r"'greedy-0' asks for 2 of 'gpu', and its task runner has 1 of 'gpu' in all"):
        state.result()


def test_a_task_that_would_wait_for_what_its_parents_hold_is_told() -> None:
    @task(resources={"gpu": 1})
    def inner() -> int:
        return 1

    @task(resources={"gpu": 1})
    def outer() -> int:
        return inner.submit().result()

    @flow(task_runner=ConcurrentTaskRunner(resources={"gpu": 1}))
    def nested() -> int:
        return outer.submit().result()

    with pytest.raises(RunnerError, match="it would wait for them, and they for it"):
        nested()


def test_resources_of_what_failed_or_was_cancelled_are_free_again() -> None:
    gate = threading.Event()

    @task(resources={"gpu": 1})
    def held() -> None:
        gate.wait(10)
        raise ValueError("no")

    @flow(task_runner=ConcurrentTaskRunner(resources={"gpu": 1}))
    def failing() -> str:
        first, second = held.submit(), held.submit()
        gate.set()
        first.wait()
        second.wait()
        return held.with_options(retries=1).submit().wait().name

    assert failing() == "Failed"


@pytest.mark.parametrize("workers", [1, 3])
def test_the_higher_priority_goes_first_and_the_lower_last(workers: int) -> None:
    gate, order = threading.Event(), []

    @task
    def blocking() -> None:
        gate.wait(10)

    @task
    def noting(name: str) -> None:
        order.append(name)

    @flow(task_runner=ConcurrentTaskRunner(workers))
    def ranked() -> None:
        for _ in range(workers):
            blocking.submit()
        time.sleep(0.1)
        for number in range(3):
            noting.with_options(priority=-1).submit(f"low{number}")
        for number in range(3):
            noting.submit(f"middle{number}")
        noting.with_options(priority=1).submit("high")
        noting.with_options(priority=5).submit("highest")
        gate.set()

    ranked()
    if workers == 1:
        assert order == ["highest", "high", "middle0", "middle1", "middle2", "low0", "low1", "low2"]
    assert sorted(order) == sorted(["highest", "high", *(f"{kind}{n}" for kind in ("middle", "low") for n in range(3))])


def test_processes_keep_to_resources_and_priorities(tmp_path: Path) -> None:
    @task
    def noting(path: str, name: str) -> None:
        with open(path, "a") as file:
            file.write(f"{name} ")

    @task
    def waiting(path: str) -> None:
        while not Path(path).exists():
            time.sleep(0.01)

    @task(resources={"gpu": 1})
    def alone(path: str) -> bool:
        lock = Path(path)
        lock.touch(exist_ok=False)
        time.sleep(0.02)
        lock.unlink()
        return True

    @flow(task_runner=ProcessPoolTaskRunner(1))
    def ranked() -> None:
        first = waiting.submit(str(tmp_path / "gate"))
        while not first.state.is_running():
            time.sleep(0.01)
        for name, priority in (("low", -1), ("middle", 0), ("high", 2), ("low", -1), ("middle", 0)):
            noting.with_options(priority=priority).submit(str(tmp_path / "order"), name)
        (tmp_path / "gate").touch()

    @flow(task_runner=ProcessPoolTaskRunner(2, resources={"gpu": 1}))
    def gated() -> list[bool]:
        return alone.map([str(tmp_path / "lock")] * 10).result()

    ranked()
    assert (tmp_path / "order").read_text().split() == ["high", "middle", "middle", "low", "low"]
    assert gated() == [True] * 10


def test_an_attempt_whose_worker_was_lost_is_made_again_as_often_as_asked(world: Harness, tmp_path: Path) -> None:
    @task(retries_on_crash=2)
    def dying(path: str) -> int:
        with open(path, "a") as file:
            file.write("x")
        if os.path.getsize(path) < 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.path.getsize(path)

    @flow(task_runner=ProcessPoolTaskRunner(1))
    def surviving() -> int:
        return dying.submit(str(tmp_path / "tries")).result()

    assert surviving() == 3
    expected = ["Pending", "Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Completed"]
    assert world.state_names("dying-0") == expected


def test_crashes_do_not_use_up_retries_and_end_when_they_are_too_many(tmp_path: Path) -> None:
    @task(retries=1, retries_on_crash=1)
    def always_dying(path: str) -> None:
        with open(path, "a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)

    @flow(task_runner=ProcessPoolTaskRunner(1))
    def ending() -> None:
        always_dying.submit(str(tmp_path / "tries")).result()

    with pytest.raises(WorkerLost):
        ending()
    assert (tmp_path / "tries").read_text() == "xx"


@pytest.mark.parametrize("value", [-1, "2", True])
def test_retries_on_crash_is_a_count(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="retries_on_crash"):
        task(len, retries_on_crash=value)
