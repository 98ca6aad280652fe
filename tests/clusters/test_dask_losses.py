"""Workers and schedulers that end in the midst of a run: what was lost is said, and nothing runs twice behind the engine's back."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from prefect_core import flow, history
from prefect_core.errors import WorkerLost
from prefect_core.states import State
from prefect_core.task_runners import DaskTaskRunner
from prefect_core.testing.contract.journal import Journal
from tests.clusters import dask_bodies as bodies
from tests.clusters.existing import ExistingCluster


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def test_a_worker_that_is_killed_costs_the_attempt_that_ran_there(fragile: ExistingCluster, journal: Journal) -> None:
    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> list[Any]:
        return [bodies.die.submit(journal, return_state=True), *bodies.double.map(range(4)).result()]

    begun = time.monotonic()
    died, *others = run(return_state=True).data
    assert time.monotonic() - begun < 10
    assert others == [0, 2, 4, 6]
    assert died.is_crashed()
    assert isinstance(died.data, WorkerLost)
    assert "Dask worker tcp://127.0.0.1:" in died.message
    assert journal.lines() == ["died"]
    store = history.open_store()
    assert [attempt.state_name for attempt in store.attempts(store.task_run("die-0").key)] == ["Crashed"]


def test_its_retries_go_to_another_worker_and_every_body_is_recorded(
    fragile: ExistingCluster, journal: Journal
) -> None:
    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> State:
        return bodies.die_once.with_options(retries=2).submit(journal, return_state=True)

    state = run(return_state=True).data
    assert state.is_completed()
    assert journal.lines() == ["body", "body"]
    store = history.open_store()
    row = store.task_run("die_once-0")
    assert [attempt.state_name for attempt in store.attempts(row.key)][1:] == ["Completed"]


def test_a_value_that_is_lost_with_its_worker_is_missed_and_not_computed_again(
    fragile: ExistingCluster, journal: Journal
) -> None:
    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> Any:
        made = bodies.make.submit(journal, 1)
        made.wait()
        os.kill(int(journal.lines()[0].split()[1]), signal.SIGKILL)
        with pytest.raises(WorkerLost, match="'make-0' was lost with Dask worker tcp://"):
            while True:
                made.result()
        # Had Dask begun it again, this would come behind it.
        return bodies.double.submit(4).result()

    assert run() == 8
    assert len(journal.lines()) == 1


def test_a_scheduler_that_is_killed_ends_every_open_attempt_with_a_message(
    fragile: ExistingCluster, journal: Journal
) -> None:
    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> list[State | None]:
        futures = [bodies.hold.submit(journal, str(number)) for number in range(3)]
        while not journal.lines():
            time.sleep(0.01)
        fragile.kill_scheduler()
        ended = [future.wait() for future in futures]
        return [*ended, bodies.double.submit(1, return_state=True)]

    begun = time.monotonic()
    states = run(return_state=True).data
    assert time.monotonic() - begun < 30
    for state in states:
        assert state.is_crashed()
        assert f"The connection to the Dask scheduler at {fragile.address} was lost" in state.message
