"""To which process runs belong in a file: those that were let run again, and those of earlier versions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_core.control.reaping import reap
from prefect_core.errors import LeaseLost
from prefect_core.history.process import this_process
from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.requests import ENDED, OVER
from prefect_core.history.sqlite.connection import Connections
from prefect_core.history.sqlite.migrate import migrations
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.history.sqlite.writer import SqliteWriter
from prefect_core.runs import FlowRun, TaskRun
from prefect_core.state_kinds import FAILED, RUNNING
from tests.contract.history_runs import begin_flow_run, begin_task_run, enter


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "home")
    yield made
    made.close()


@pytest.fixture
def first(store: SqliteStore, tmp_path: Path) -> Iterator[StoreRecorder]:
    made = StoreRecorder(SqliteWriter(tmp_path / "home"))
    yield made
    made.close()


@pytest.fixture
def second(first: StoreRecorder, tmp_path: Path) -> Iterator[StoreRecorder]:
    made = StoreRecorder(SqliteWriter(tmp_path / "home"))
    yield made
    made.close()


def under_way(recorder: StoreRecorder) -> tuple[FlowRun, TaskRun]:
    flow_run = begin_flow_run(recorder)
    enter(recorder, flow_run, RUNNING)
    task_run = begin_task_run(recorder, flow_run)
    enter(recorder, task_run, RUNNING)
    recorder.flush()
    return flow_run, task_run


def take(store: SqliteStore, recorder: StoreRecorder) -> list[int] | None:
    lease = store.control().lease(recorder.process)
    assert lease is not None
    return store.control().take_lease(lease, "a test")


def test_letting_a_run_run_again_takes_the_lease_of_its_last_process(
    store: SqliteStore, first: StoreRecorder, second: StoreRecorder
) -> None:
    flow_run, task_run = under_way(first)
    other, _ = under_way(first)
    store.reopen_run(flow_run.key, second.process, "ada", lambda _: True)
    assert [row.state_name for row in map(store.flow_run, (flow_run.key, other.key))] == ["Pending", "Crashed"]
    assert store.task_run(task_run.key).state_name == "Crashed"
    begin_flow_run(first)
    with pytest.raises(LeaseLost, match="declared dead by ada"):
        first.flush()


def test_a_run_that_was_let_run_again_belongs_to_who_runs_it(
    store: SqliteStore, first: StoreRecorder, second: StoreRecorder
) -> None:
    flow_run, task_run = under_way(first)
    enter(first, task_run, FAILED)
    enter(first, flow_run, FAILED)
    first.flush()
    store.reopen_run(flow_run.key, second.process, "ada", lambda _: False)
    again = begin_task_run(second, flow_run, "again")
    enter(second, task_run, RUNNING, "Retrying")
    second.flush()
    control = store.control()
    assert {control.owner(run.key) for run in (flow_run, task_run, again)} == {second.process}
    # Its first process lives on, and is found dead later.
    assert take(store, first) == []
    assert take(store, second) == sorted([flow_run.key, task_run.key, again.key])
    names = [state.name for state in store.states(flow_run.key)]
    assert names == ["Pending", "Running", "Failed", "Pending", "Crashed"]


def test_what_was_asked_of_an_earlier_attempt_is_not_for_the_next(
    store: SqliteStore, first: StoreRecorder, second: StoreRecorder
) -> None:
    flow_run, _ = under_way(first)
    enter(first, flow_run, FAILED)
    first.flush()
    request = store.control().ask(flow_run.key, "cancel", {}, "bob")
    store.reopen_run(flow_run.key, second.process, "ada", lambda _: False)
    row = store.control().request(request.key)
    assert row is not None
    assert row.answer == {OVER: ENDED}


def test_runs_that_an_earlier_version_left_open_are_found(tmp_path: Path) -> None:
    old = Connections(tmp_path / "old", migrations()[:2])
    here = this_process()
    with old.transaction() as connection:
        for number, pid, started in ((1, here.pid, here.pid_started), (2, here.pid, 1), (3, here.pid, 1)):
            connection.execute(
                "INSERT INTO process VALUES (?, ?, ?, ?, ?, 0, '0.1')", (number, here.host, here.boot_id, pid, started)
            )
            state = "COMPLETED" if number == 3 else "RUNNING"
            connection.execute(
                "INSERT INTO flow_run VALUES (?, ?, 'a', 'etl', NULL, NULL, '', '{}', NULL, NULL, NULL, 1, 1, NULL, 1, ?, ?, NULL, 1)",
                (number << 32 | 1, bytes([number] * 16), state, state.capitalize()),
            )
            connection.execute(
                "INSERT INTO state VALUES (?, 0, 1, ?, ?, NULL, 1, NULL)",
                (number << 32 | 1, state, state.capitalize()),
            )
    old.close()
    store = SqliteStore(tmp_path / "old")
    assert [lease.number for lease in store.control().leases()] == [1, 2]
    # The first is this process, which is there.
    assert reap(store.control()) == [2 << 32 | 1]
    store.close()
