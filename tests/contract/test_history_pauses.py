"""Pauses, the same in every store: what is noted of them, which runs outlive their process, and whose time is up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_core import clock
from prefect_core.errors import FlowPauseTimeout, NotPausedError, NotRunnableAgain
from prefect_core.history.memory import MemoryStore
from prefect_core.history.pauses import PauseRow
from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.history.store import HistoryStore
from prefect_core.runs import FlowRun
from prefect_core.state_kinds import COMPLETED, FAILED, PAUSED, RUNNING
from tests.contract.history_runs import begin_flow_run, begin_task_run, enter, go_through


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[HistoryStore]:
    made = SqliteStore(tmp_path / "home")
    yield made
    made.close()


def pause(recorder: StoreRecorder, run: FlowRun, **fields: object) -> PauseRow:
    """Let a running flow run be paused, and have that written."""
    state = enter(recorder, run, PAUSED)
    row = PauseRow(run.key, state.timestamp_us, "a", 1)._replace(**fields)  # type: ignore[arg-type]  # by name
    recorder.noted([row.noted()])
    recorder.flush()
    return row


def begin(recorder: StoreRecorder) -> FlowRun:
    run = begin_flow_run(recorder)
    enter(recorder, run, RUNNING)
    return run


def test_pauses_are_read_first_to_last(store: HistoryStore, recorder: StoreRecorder) -> None:
    run, other = begin(recorder), begin(recorder)
    first = pause(recorder, run, form='{"schema": {}}', until_us=5)
    enter(recorder, run, RUNNING)
    second = pause(recorder, run, key="b", is_suspended=0)
    assert store.control().pauses(run.key) == [first, second]
    assert store.control().pauses(other.key) == []
    assert (first.is_open, first.has_fired) == (True, False)


def test_what_is_noted_later_counts(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin(recorder)
    row = pause(recorder, run)
    resumed = row._replace(resumed_us=7, resumed_by="ada", input='{"value": 1}')
    recorder.noted([resumed.noted()])
    recorder.flush()
    assert store.control().pauses(run.key) == [resumed]
    assert (resumed.is_open, resumed.has_fired, resumed._replace(is_forgotten=1).has_fired) == (False, True, False)


def test_pauses_go_with_their_run(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin(recorder)
    pause(recorder, run)
    store.delete_flow_run(run.key)
    assert store.control().pauses(run.key) == []
    assert store.check() == []


@pytest.mark.parametrize("is_suspended", [0, 1])
def test_a_suspended_run_outlives_a_killed_process_and_one_that_was_held_does_not(
    store: HistoryStore, recorder: StoreRecorder, is_suspended: int
) -> None:
    run = begin(recorder)
    task_run = begin_task_run(recorder, run)
    enter(recorder, task_run, RUNNING)
    pause(recorder, run, is_suspended=is_suspended)
    lease = store.control().lease(recorder.process)
    assert lease is not None
    ended = store.control().take_lease(lease, "a test")
    assert ended == ([task_run.key] if is_suspended else [run.key, task_run.key])
    assert store.flow_run(run.key).state_type == ("PAUSED" if is_suspended else "CRASHED")
    assert store.task_run(task_run.key).state_type == "CRASHED"


def test_a_suspended_run_whose_time_is_up_fails_once(store: HistoryStore, recorder: StoreRecorder) -> None:
    late, in_time, leaving, gone_on = (begin(recorder) for _ in range(4))
    past, future = clock.now_us() - 1, clock.now_us() + 3_600_000_000
    pause(recorder, late, until_us=past, left_us=1)
    pause(recorder, in_time, until_us=future, left_us=1)
    pause(recorder, leaving, until_us=past)
    pause(recorder, gone_on, until_us=past, left_us=1)
    go_through(recorder, gone_on, [RUNNING, COMPLETED])
    recorder.flush()
    assert store.control().expire_pauses() == [late.key]
    assert store.control().expire_pauses() == []
    row = store.flow_run(late.key)
    assert (row.state_type, row.state_message) == ("FAILED", "The flow was paused and never resumed.")
    assert row.ended_us == row.state_us
    assert [attempt.ended_us for attempt in store.attempts(late.key)] == [row.state_us]
    assert [store.flow_run(run.key).state_type for run in (in_time, leaving)] == ["PAUSED", "PAUSED"]


def test_hooks_of_a_suspended_run_whose_time_is_up_are_owed(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin_flow_run(recorder, at_end=("FAILED", None))
    enter(recorder, run, RUNNING)
    pause(recorder, run, until_us=clock.now_us() - 1, left_us=1)
    assert store.control().expire_pauses() == [run.key]
    assert [one.run for one in store.owed()] == [run.key]


def test_a_history_in_memory_gives_its_runs_to_nobody(tmp_path: Path) -> None:
    store = MemoryStore()
    recorder = StoreRecorder(store)
    run = begin(recorder)
    pause(recorder, run, left_us=1)
    with pytest.raises(NotRunnableAgain, match="A history in memory ends with its process"):
        store.control().resume_run(run.key, 2, "ada", None, lambda _: True)
    recorder.close()


def test_a_suspended_run_is_given_to_one_process_with_what_was_given(sqlite: HistoryStore) -> None:
    recorder = StoreRecorder(sqlite)
    run = begin(recorder)
    pause(recorder, run, left_us=clock.now_us())
    control = sqlite.control()
    got = control.resume_run(run.key, 7, "ada", '{"value": 1}', lambda _: False)
    assert (got.attempts, got.run.state_type, got.run.state_name) == (1, "SCHEDULED", "Resuming")
    assert control.owner(run.key) == 7
    [row] = control.pauses(run.key)
    assert (row.resumed_by, row.input, row.has_fired) == ("ada", '{"value": 1}', True)
    with pytest.raises(NotPausedError, match=r"^Cannot resume a run that isn't paused!$"):
        control.resume_run(run.key, 8, "bob", None, lambda _: False)
    assert control.owner(run.key) == 7
    assert sqlite.check() == []
    recorder.close()


@pytest.mark.parametrize(
    ("fields", "is_gone", "refusal"),
    [
        ({"is_suspended": 0}, False, "still in process"),
        ({"is_suspended": 1}, False, "still in process"),
        ({"is_suspended": 1}, None, "it can't be known whether that has ended"),
    ],
)
def test_what_a_process_has_not_left_is_given_to_nobody(
    sqlite: HistoryStore, fields: dict[str, int], is_gone: bool | None, refusal: str
) -> None:
    recorder = StoreRecorder(sqlite)
    run = begin(recorder)
    pause(recorder, run, **fields)
    with pytest.raises(NotRunnableAgain, match=refusal):
        sqlite.control().resume_run(run.key, 7, "ada", None, lambda _: is_gone)
    assert sqlite.flow_run(run.key).state_type == "PAUSED"
    recorder.close()


def test_a_suspended_run_whose_process_was_killed_on_its_way_out_is_given_away(sqlite: HistoryStore) -> None:
    recorder = StoreRecorder(sqlite)
    run = begin(recorder)
    task_run = begin_task_run(recorder, run)
    pause(recorder, run)
    sqlite.control().resume_run(run.key, 7, "ada", None, lambda _: True)
    assert sqlite.task_run(task_run.key).state_type == "CRASHED"
    recorder.close()


def test_a_suspended_run_whose_process_was_declared_dead_is_given_away(sqlite: HistoryStore) -> None:
    recorder = StoreRecorder(sqlite)
    run = begin(recorder)
    pause(recorder, run)
    control = sqlite.control()
    lease = control.lease(recorder.process)
    assert lease is not None
    control.take_lease(lease, "bob")
    # As in a container that goes on after it was stopped for longer than its lease.
    control.resume_run(run.key, 7, "ada", None, lambda _: False)
    assert sqlite.flow_run(run.key).state_name == "Resuming"
    recorder.close()


def test_what_can_no_longer_be_resumed_is_given_to_nobody(sqlite: HistoryStore) -> None:
    recorder = StoreRecorder(sqlite)
    run = begin(recorder)
    pause(recorder, run, left_us=1, until_us=clock.now_us() - 1)
    with pytest.raises(FlowPauseTimeout, match=r"^Flow run can no longer be resumed\.$"):
        sqlite.control().resume_run(run.key, 7, "ada", None, lambda _: False)
    recorder.close()


@pytest.mark.parametrize(("kind", "is_forgotten"), [(FAILED, 1), (None, 0)])
def test_a_retry_forgets_the_pauses_of_a_run_that_failed_and_keeps_those_of_one_that_crashed(
    sqlite: HistoryStore, kind: object, is_forgotten: int
) -> None:
    recorder = StoreRecorder(sqlite)
    run = begin(recorder)
    row = pause(recorder, run, is_suspended=0)
    recorder.noted([row._replace(resumed_us=5, input="{}").noted()])
    go_through(recorder, run, [RUNNING, *([FAILED] if kind is FAILED else [])])
    recorder.flush()
    sqlite.reopen_run(run.key, 7, "ada", lambda _: True)
    [after] = sqlite.control().pauses(run.key)
    assert (after.is_forgotten, after.has_fired) == (is_forgotten, not is_forgotten)
    recorder.close()
