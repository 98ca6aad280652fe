"""Runs that are cancelled by others than their owner, who is gone: the same in every store."""

from __future__ import annotations

import pytest

from prefect_core import cancel_flow_run, cancelling, history
from prefect_core.errors import NotCancellable
from prefect_core.history.pauses import PauseRow
from prefect_core.history.process import this_process
from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.requests import ENDED, LOST, OVER
from prefect_core.history.store import HistoryStore
from prefect_core.state_kinds import CANCELLING, COMPLETED, PAUSED, PENDING, RUNNING, SCHEDULED, StateType
from tests.contract.history_runs import begin_flow_run, begin_task_run, enter, go_through
from tests.contract.test_history_control import lease_of, states_of

MESSAGE = "Suspended flow run has no infrastructure to terminate."


def test_the_process_of_a_number_is_known_for_as_long_as_its_runs(store: HistoryStore, recorder: StoreRecorder) -> None:
    assert store.control().process(recorder.process) == this_process()
    assert store.control().process(recorder.process + 1) is None
    go_through(recorder, begin_flow_run(recorder), [RUNNING, COMPLETED])
    recorder.close()
    assert store.control().process(recorder.process) == this_process()


def test_a_suspended_run_is_cancelled_by_who_asks(store: HistoryStore, recorder: StoreRecorder) -> None:
    run, other = begin_flow_run(recorder), begin_flow_run(recorder, "late-newt")
    inside = begin_task_run(recorder, run)
    for one in (run, other):
        go_through(recorder, one, [RUNNING, PAUSED])
    recorder.close()
    request = store.control().ask(run.key, "cancel", {}, "ada")
    assert store.control().cancel_left(run.key, MESSAGE)
    assert not store.control().cancel_left(run.key, MESSAGE)
    row = store.flow_run(run.key)
    assert (row.state_name, row.state_message) == ("Cancelled", MESSAGE)
    assert row.ended_us == row.state_us
    assert states_of(store, run.key) == ["Pending", "Running", "Paused", "Cancelled"]
    assert store.task_run(inside.key).state_name == "Cancelled"
    assert store.flow_run(other.key).state_name == "Paused"
    answered = store.control().request(request.key)
    assert answered is not None
    assert answered.answer == {OVER: ENDED}


def test_a_run_that_a_process_has_is_left_to_that(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin_flow_run(recorder)
    go_through(recorder, run, [RUNNING, PAUSED])
    recorder.flush()
    assert not store.control().cancel_left(run.key, MESSAGE)
    assert store.flow_run(run.key).state_name == "Paused"


def test_a_suspended_run_is_nobodys_once_it_was_left(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin_flow_run(recorder)
    go_through(recorder, run, [RUNNING, PAUSED])
    pause = PauseRow(run.key, run.state.timestamp_us, "a", 1)
    recorder.noted([pause.noted()])
    recorder.flush()
    assert not store.control().cancel_left(run.key, MESSAGE)
    recorder.noted([pause._replace(left_us=run.state.timestamp_us + 1).noted()])
    recorder.flush()
    assert store.control().cancel_left(run.key, MESSAGE)
    assert states_of(store, run.key) == ["Pending", "Running", "Paused", "Cancelled"]


def test_who_kills_an_owner_ends_one_run_cancelled_and_the_others_crashed(
    store: HistoryStore, recorder: StoreRecorder
) -> None:
    run, other = begin_flow_run(recorder), begin_flow_run(recorder, "late-newt")
    inside = begin_task_run(recorder, run)
    enter(recorder, run, RUNNING)
    enter(recorder, other, RUNNING)
    recorder.flush()
    ended = store.control().take_lease(lease_of(store, recorder), "ada", run.key)
    assert ended is not None
    assert other.key in ended
    assert [store.flow_run(one.key).state_name for one in (run, other)] == ["Cancelled", "Crashed"]
    assert store.task_run(inside.key).state_name == "Cancelled"
    assert store.flow_run(run.key).state_message == LOST


def test_cancelling_a_suspended_run_needs_no_process(store: HistoryStore) -> None:
    recorder = StoreRecorder(store)
    before = history.install(recorder)
    try:
        run = begin_flow_run(recorder)
        go_through(recorder, run, [RUNNING, PAUSED])
        recorder.flush()
        # As its process does when it ends with the run suspended.
        store.let_go(has_open_runs=True)
        state = cancel_flow_run(run.id)
        assert (state.name, state.message) == ("Cancelled", MESSAGE)
        assert store.flow_run(run.key).state_message == MESSAGE
        with pytest.raises(NotCancellable, match="terminal state CANCELLED"):
            cancelling.cancel_flow_run(run.id)
    finally:
        history.install(before)
        recorder.close()


@pytest.mark.parametrize("kind", [PENDING, SCHEDULED])
def test_a_scheduled_run_has_no_infrastructure_yet(store: HistoryStore, kind: StateType) -> None:
    recorder = StoreRecorder(store)
    before = history.install(recorder)
    try:
        run = begin_flow_run(recorder)
        if kind is SCHEDULED:
            enter(recorder, run, SCHEDULED)
        recorder.flush()
        # No process is known that could begin it.
        store.let_go(has_open_runs=False)
        state = cancel_flow_run(run.id)
        assert (state.name, state.message) == ("Cancelled", "Scheduled flow run has no infrastructure to terminate.")
        assert store.flow_run(run.key).state_message == state.message
        assert states_of(store, run.key)[-2:] == [kind.capitalize(), "Cancelled"]
    finally:
        history.install(before)
        recorder.close()


def test_a_cancelling_run_whose_process_let_go_ends_cancelled(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin_flow_run(recorder)
    go_through(recorder, run, [RUNNING, CANCELLING])
    recorder.close()
    assert store.control().take_lease(lease_of(store, recorder), "ada") == [run.key]
    assert store.flow_run(run.key).state_name == "Cancelled"
