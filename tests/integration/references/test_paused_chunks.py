"""What is about to go to a runner in a chunk when its flow run is paused stays here, and goes there when the run is resumed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from prefect_core import context, flow, pause_flow_run, resume_flow_run, task
from prefect_core.payload import Payload
from prefect_core.testing.contract.journal import Journal
from prefect_core.testing.surroundings import Harness, harness
from tests.contract.holding import HoldingTaskRunner

LONGER_THAN_NEWS_SECONDS = 1.0
"""More than a pause waits for what may have begun."""
LONGER_THAN_STUCK_SECONDS = 2.0
"""More than it takes until a chunk is loosened that is stuck behind a slow body."""


@pytest.fixture
def world() -> Iterator[Harness]:
    # Bodies record elsewhere, in this very process: who asks for a pause finds the run in a file all the same.
    with harness("sqlite") as world:
        yield world


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def paused_us(world: Harness) -> int:
    [row] = world.store.flow_runs()
    return next(state.timestamp_us for state in world.store.states(row.key) if state.name == "Paused")


def begun_since(world: Harness, moment_us: int) -> list[str]:
    return [row.name for row in world.store.task_runs() if row.started_us is not None and row.started_us > moment_us]


class Slow:
    """A number whose pickling tells of its beginning, and then takes some time."""

    def __init__(self, number: int, tell: Callable[[], object]) -> None:
        self.number = number
        self._tell = tell

    def __reduce__(self) -> Any:
        self._tell()
        threading.Event().wait(LONGER_THAN_NEWS_SECONDS)
        return int, (self.number,)


@task
def double(number: int) -> int:
    return int(number) * 2


def test_a_chunk_that_is_being_handed_over_is_waited_for_and_taken_back(world: Harness) -> None:
    is_pickled = threading.Event()

    @flow(task_runner=HoldingTaskRunner())
    def run() -> list[int]:
        return double.map([Slow(1, is_pickled.set), 2, 3], chunk=10).result()

    with ThreadPoolExecutor(1) as beside:
        value = beside.submit(run)
        assert is_pickled.wait(30)
        [row] = world.store.flow_runs()
        pause_flow_run(flow_run_id=row.id)
        threading.Event().wait(1.2 * LONGER_THAN_NEWS_SECONDS)
        begun = begun_since(world, paused_us(world))
        resume_flow_run(row.id)
        assert value.result(30) == [2, 4, 6]
        assert begun == []


class Reluctant(HoldingTaskRunner):
    """Takes nothing back at first."""

    def __init__(self) -> None:
        super().__init__()
        self.gives_back = False

    def cancel(self, payload: Payload) -> bool:
        return self.gives_back and super().cancel(payload)


def test_what_is_loosened_from_a_chunk_while_the_run_is_paused_goes_on_when_it_is_resumed(
    world: Harness, journal: Journal
) -> None:
    runners: list[Any] = []

    @task
    def fill() -> None:
        journal.wait_for("all are submitted")

    @task
    def quick(number: int) -> int:
        if number == 30:
            journal.note("held")
            journal.wait_for("go")
        return number

    @flow(task_runner=Reluctant())
    def run() -> list[int]:
        around = context.current()
        assert around is not None
        runners.append(around.dispatcher.runner)
        for number in range(20):
            quick.submit(number).result()
        for _ in range(2):
            fill.submit()
        futures = [quick.submit(number) for number in range(60)]
        journal.note("all are submitted")
        return [future.result() for future in futures]

    with ThreadPoolExecutor(1) as beside:
        value = beside.submit(run)
        journal.wait_for("held")
        [row] = world.store.flow_runs()
        pause_flow_run(flow_run_id=row.id)
        runners[0].gives_back = True
        threading.Event().wait(LONGER_THAN_STUCK_SECONDS)
        begun = begun_since(world, paused_us(world))
        resume_flow_run(row.id)
        journal.note("go")
        assert value.result(30) == list(range(60))
        assert begun == []
