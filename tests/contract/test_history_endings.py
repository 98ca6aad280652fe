"""What is to be done at the ends of flow runs, the same in every store: hooks that are owed, who calls them, and runs to be run again."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_core.history.owed import KEEPS_CRASHING, OwedRow
from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.store import HistoryStore
from prefect_core.runs import FlowRun
from prefect_core.state_kinds import CANCELLED, CANCELLING, COMPLETED, CRASHED, FAILED, RUNNING
from tests.contract.history_runs import begin_flow_run, begin_task_run, enter, go_through

HOOKED = ("FAILED CRASHED", None)


def lose(store: HistoryStore, recorder: StoreRecorder) -> None:
    """Declare the process dead."""
    recorder.flush()
    lease = store.control().lease(recorder.process)
    assert lease is not None
    assert store.control().take_lease(lease, "a test") is not None


def hooked(recorder: StoreRecorder, **fields: Any) -> FlowRun:
    return begin_flow_run(recorder, at_end=HOOKED, **fields)


def owed_of(store: HistoryStore, run: FlowRun) -> OwedRow:
    return OwedRow(run.key, store.states(run.key)[-1].timestamp_us)


@pytest.mark.parametrize(("kind", "is_owed"), [(FAILED, True), (CRASHED, True), (COMPLETED, False), (CANCELLED, False)])
def test_hooks_of_a_state_are_owed_once_their_process_is_lost(
    store: HistoryStore, recorder: StoreRecorder, kind: Any, is_owed: bool
) -> None:
    run, other = hooked(recorder), begin_flow_run(recorder)
    go_through(recorder, run, [RUNNING, kind])
    go_through(recorder, other, [RUNNING, kind])
    recorder.flush()
    # Their process lives, and calls them itself.
    assert store.owed() == []
    assert not store.claim_owed(owed_of(store, run), "ada")
    lose(store, recorder)
    assert store.owed() == ([owed_of(store, run)] if is_owed else [])


def test_hooks_are_claimed_once(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = hooked(recorder)
    go_through(recorder, run, [RUNNING, FAILED])
    lose(store, recorder)
    [owed] = store.owed()
    assert store.claim_owed(owed, "ada")
    assert not store.claim_owed(owed, "bob")
    assert store.owed() == []
    assert not store.claim_owed(owed._replace(at_us=1), "ada")


def test_hooks_that_their_process_has_claimed_are_not_owed(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = hooked(recorder)
    go_through(recorder, run, [RUNNING, FAILED])
    recorder.flush()
    owed = owed_of(store, run)
    recorder.noted([("called", (*owed, "itself", 1))])
    lose(store, recorder)
    assert store.owed() == []
    assert not store.claim_owed(owed, "ada")


def test_a_process_that_ended_well_may_owe_hooks_too(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = hooked(recorder)
    go_through(recorder, run, [RUNNING, FAILED])
    recorder.close()
    assert store.owed() == [owed_of(store, run)]


def test_hooks_of_runs_that_were_lost_are_owed(store: HistoryStore, recorder: StoreRecorder) -> None:
    run, without = hooked(recorder), begin_flow_run(recorder, at_end=("FAILED", None))
    inside = hooked(recorder, parent_task_run=begin_task_run(recorder, run))
    elsewhere = begin_flow_run(recorder, at_end=("CANCELLED", None))
    for one in (run, without, inside):
        enter(recorder, one, RUNNING)
    go_through(recorder, elsewhere, [RUNNING, CANCELLING])
    lose(store, recorder)
    assert set(store.owed()) == {owed_of(store, one) for one in (run, inside, elsewhere)}
    assert set(store.owed(run.key)) == {owed_of(store, one) for one in (run, inside)}
    assert store.owed(elsewhere.key) == [owed_of(store, elsewhere)]
    assert store.claim_owed(owed_of(store, inside), "ada")


def test_what_was_said_last_of_a_run_counts(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = hooked(recorder)
    recorder.flush()
    run.at_end = ("", "resume")
    enter(recorder, run, RUNNING)
    lose(store, recorder)
    assert store.owed() == []
    assert store.resumable() == [run.key]


def test_crashed_runs_that_want_it_are_to_be_run_again(store: HistoryStore, recorder: StoreRecorder) -> None:
    wanted = ("", "resume")
    crashed, failed, left = [begin_flow_run(recorder, at_end=wanted) for _ in range(3)]
    unwanted = begin_flow_run(recorder)
    inside = begin_flow_run(recorder, at_end=wanted, parent_task_run=begin_task_run(recorder, unwanted))
    go_through(recorder, crashed, [RUNNING, CRASHED])
    go_through(recorder, failed, [RUNNING, FAILED])
    for run in (left, unwanted, inside):
        enter(recorder, run, RUNNING)
    recorder.flush()
    assert store.resumable() == [crashed.key]
    lose(store, recorder)
    assert store.resumable() == [crashed.key, left.key]


def test_the_first_losses_have_the_plain_name(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin_flow_run(recorder, at_end=("", "resume"))
    enter(recorder, run, RUNNING)
    lose(store, recorder)
    assert store.flow_run(run.key).state_name == "Crashed" != KEEPS_CRASHING


def test_what_is_owed_goes_with_its_run(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = hooked(recorder)
    enter(recorder, run, RUNNING)
    lose(store, recorder)
    store.delete_flow_run(run.key)
    assert store.owed() == []
    assert store.check() == []
