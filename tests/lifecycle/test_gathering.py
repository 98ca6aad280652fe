"""Quick tasks travel in chunks unasked, and nobody is worse off for it."""

from __future__ import annotations

import threading
import time
import weakref

import pytest

from prefect_core import flow, history, task
from prefect_core.futures import wait
from prefect_core.payload import Payload
from prefect_core.runs import TaskRun
from tests.contract.holding import HoldingTaskRunner

started: list[HoldingTaskRunner] = []
peers_are_there = threading.Event()


class Watched(HoldingTaskRunner):
    """A distant runner that tells what it was handed."""

    def start(self, host: object) -> None:
        super().start(host)  # type: ignore[arg-type]  # a host
        started.append(self)


@pytest.fixture(autouse=True)
def _anew() -> None:
    started.clear()
    peers_are_there.clear()


@task
def quick(x: int) -> int:
    return x + 1


@task
def slow(x: int) -> int:
    time.sleep(0.01)
    return x


@task
def barrier(x: int) -> int:
    """Be quick, until one waits for what is submitted after it."""
    if x == 60:
        assert peers_are_there.wait(20)
    if x == 61:
        peers_are_there.set()
    return x


def test_quick_tasks_go_together_and_each_keeps_its_run() -> None:
    @flow(task_runner=Watched())
    def many() -> list[int]:
        futures = [quick.submit(x) for x in range(300)]
        assert len({future.task_run.id for future in futures}) == 300
        return [future.result() for future in futures]

    assert many() == list(range(1, 301))
    (runner,) = started
    assert runner.chunks
    assert max(runner.chunks) > 1


def test_nothing_holds_what_was_in_a_chunk_that_is_over(caplog: pytest.LogCaptureFixture) -> None:
    # Records of lines hold the runs that they are about.
    caplog.set_level("ERROR", "prefect_core")
    runs: list[weakref.ref[TaskRun]] = []

    @flow(task_runner=Watched())
    def many() -> None:
        futures = [quick.submit(x) for x in range(300)]
        runs.extend(weakref.ref(future.task_run) for future in futures)
        wait(futures)

    many()
    assert max(started[0].chunks) > 1
    history.current().flush()
    assert [run() for run in runs if run() is not None] == []


def test_slow_tasks_go_alone() -> None:
    @flow(task_runner=Watched())
    def many() -> list[int]:
        return [future.result() for future in [slow.submit(x) for x in range(40)]]

    assert many() == list(range(40))
    assert started[0].chunks == []


def test_a_few_calls_go_alone() -> None:
    @flow(task_runner=Watched())
    def one_by_one() -> None:
        for x in range(40):
            assert quick.submit(x).result() == x + 1

    one_by_one()
    assert started[0].chunks == []


def test_a_runner_has_the_last_word() -> None:
    class Declining(Watched):
        def may_gather(self, payload: Payload) -> bool:
            return False

    @flow(task_runner=Declining())
    def many() -> list[int]:
        return [future.result() for future in [quick.submit(x) for x in range(100)]]

    assert many() == list(range(1, 101))
    assert started[0].chunks == []


def test_what_is_asked_for_beside_plain_arguments_goes_alone() -> None:
    prior = quick.with_options(priority=3)

    @flow(task_runner=Watched())
    def many() -> list[int]:
        return [future.result() for future in [prior.submit(x) for x in range(100)]]

    assert many() == list(range(1, 101))
    assert started[0].chunks == []


def test_sums_of_quick_tasks_are_right() -> None:
    @task
    def add(x: int, y: int = 0) -> int:
        return x + y

    @flow(task_runner=Watched())
    def tree() -> int:
        level = [quick.submit(x) for x in range(64)]
        while len(level) > 1:
            level = [add.submit(x, y) for x, y in zip(level[::2], level[1::2], strict=True)]
        return level[0].result()

    assert tree() == sum(range(1, 65))


def test_what_waits_for_its_neighbour_in_a_chunk_gets_it() -> None:
    @flow(task_runner=Watched())
    def meet() -> list[int]:
        return [future.result(timeout=30) for future in [barrier.submit(x) for x in range(100)]]

    assert meet() == list(range(100))
