"""Leases and requests, the same in every store: who owns what, what becomes of a dead owner's runs, and what is asked of whom."""

from __future__ import annotations

import pytest

from prefect_core.errors import LeaseLost
from prefect_core.history.leases import LeaseRow, Sight
from prefect_core.history.process import monotonic_us, this_process
from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.requests import LOST, OVER
from prefect_core.history.store import HistoryStore
from prefect_core.state_kinds import CANCELLING, COMPLETED, PAUSED, PENDING, RUNNING, SCHEDULED
from tests.contract.history_runs import begin_flow_run, begin_task_run, enter, go_through


def lease_of(store: HistoryStore, recorder: StoreRecorder) -> LeaseRow:
    lease = store.control().lease(recorder.process)
    assert lease is not None
    return lease


def states_of(store: HistoryStore, key: int) -> list[str]:
    return [state.name for state in store.states(key)]


def test_who_records_has_a_lease(store: HistoryStore, recorder: StoreRecorder) -> None:
    lease = lease_of(store, recorder)
    assert lease.process == this_process()
    assert 0 < lease.expires_us - monotonic_us() <= lease.length_us == 60_000_000
    assert (lease.let_go_us, lease.taken_by, lease.seen) == (None, None, None)
    assert store.control().leases() == [lease]


def test_a_lease_is_renewed(store: HistoryStore, recorder: StoreRecorder) -> None:
    before = lease_of(store, recorder)
    assert store.control().renew_lease(recorder.process, 90_000_000)
    after = lease_of(store, recorder)
    assert after.expires_us > before.expires_us
    assert after.length_us == 90_000_000


def test_who_ends_without_open_runs_has_no_lease(store: HistoryStore, recorder: StoreRecorder) -> None:
    go_through(recorder, begin_flow_run(recorder), [RUNNING, COMPLETED])
    recorder.close()
    assert store.control().leases() == []
    assert store.control().lease(recorder.process) is None


def test_who_ends_with_open_runs_leaves_a_lease_that_says_so(store: HistoryStore, recorder: StoreRecorder) -> None:
    running, paused = begin_flow_run(recorder), begin_flow_run(recorder, "late-newt")
    go_through(recorder, running, [RUNNING])
    go_through(recorder, paused, [RUNNING, PAUSED])
    recorder.close()
    lease = lease_of(store, recorder)
    assert lease.let_go_us is not None
    assert store.control().take_lease(lease, "a test") == [running.key]
    assert store.flow_run(running.key).state_name == "Crashed"
    # It was left on purpose.
    assert store.flow_run(paused.key).state_name == "Paused"


def test_the_runs_of_a_dead_owner_are_ended(store: HistoryStore, recorder: StoreRecorder) -> None:
    flow_run = begin_flow_run(recorder)
    enter(recorder, flow_run, RUNNING)
    done, running, pending, waiting, unready = [begin_task_run(recorder, flow_run, "load", index) for index in range(5)]
    go_through(recorder, done, [RUNNING, COMPLETED])
    enter(recorder, running, RUNNING)
    go_through(recorder, waiting, [RUNNING])
    enter(recorder, waiting, SCHEDULED, "AwaitingRetry")
    enter(recorder, unready, PENDING, "NotReady")
    tracking = begin_task_run(recorder, flow_run, "clean")
    child = begin_flow_run(recorder, "quiet-crab", "clean", parent_task_run=tracking)
    go_through(recorder, child, [RUNNING, CANCELLING])
    go_through(recorder, tracking, [RUNNING, CANCELLING])
    alone = begin_task_run(recorder, None, "ping")
    recorder.flush()
    ended = store.control().take_lease(lease_of(store, recorder), "a test")
    assert ended == sorted(run.key for run in (flow_run, running, pending, waiting, tracking, child, alone))
    assert states_of(store, flow_run.key) == ["Pending", "Running", "Crashed"]
    assert states_of(store, running.key) == ["Pending", "Running", "Crashed"]
    assert states_of(store, pending.key) == states_of(store, alone.key) == ["Pending", "Crashed"]
    assert states_of(store, waiting.key) == ["Pending", "Running", "AwaitingRetry", "Crashed"]
    assert states_of(store, child.key) == ["Pending", "Running", "Cancelling", "Cancelled"]
    assert states_of(store, tracking.key) == ["Pending", "Running", "Cancelling", "Cancelled"]
    assert states_of(store, done.key) == ["Pending", "Running", "Completed"]
    assert states_of(store, unready.key) == ["Pending", "NotReady"]
    row = store.flow_run(flow_run.key)
    assert (row.state_type, row.state_message, row.ended_us) == ("CRASHED", LOST, row.state_us)
    [attempt] = store.attempts(running.key)
    assert (attempt.state_name, attempt.ended_us) == ("Crashed", store.task_run(running.key).ended_us)
    assert [attempt.state_name for attempt in store.attempts(child.key)] == ["Cancelled"]
    assert store.check() == []


def test_a_lease_is_taken_once(store: HistoryStore, recorder: StoreRecorder) -> None:
    enter(recorder, begin_flow_run(recorder), RUNNING)
    recorder.flush()
    lease = lease_of(store, recorder)
    assert store.control().take_lease(lease, "the first") is not None
    assert store.control().take_lease(lease, "the second") is None
    assert lease_of(store, recorder).taken_by == "the first"
    assert store.control().leases() == []


def test_a_lease_is_not_taken_from_who_spoke_up_meanwhile(store: HistoryStore, recorder: StoreRecorder) -> None:
    lease = lease_of(store, recorder)
    store.control().renew_lease(recorder.process, 60_000_001)
    assert store.control().take_lease(lease, "a test") is None
    assert lease_of(store, recorder).taken_by is None


def test_who_lost_the_lease_writes_nothing_more(store: HistoryStore, recorder: StoreRecorder) -> None:
    lost: list[LeaseLost] = []
    recorder.on_lease_lost = lost.append
    flow_run = begin_flow_run(recorder)
    enter(recorder, flow_run, RUNNING)
    recorder.flush()
    store.control().take_lease(lease_of(store, recorder), "somebody")
    enter(recorder, flow_run, COMPLETED)
    for _ in range(2):
        with pytest.raises(LeaseLost, match="declared dead by somebody"):
            recorder.flush()
    assert not store.control().renew_lease(recorder.process, 60_000_000)
    recorder.close()
    assert len(lost) == 1
    assert states_of(store, flow_run.key) == ["Pending", "Running", "Crashed"]
    assert lease_of(store, recorder).taken_by == "somebody"


def test_a_durable_write_says_that_the_lease_was_lost(store: HistoryStore, recorder: StoreRecorder) -> None:
    flow_run = begin_flow_run(recorder)
    recorder.flush()
    store.control().take_lease(lease_of(store, recorder), "somebody")
    enter(recorder, flow_run, RUNNING)
    durable = recorder.durable()
    durable.hasten()
    with pytest.raises(LeaseLost):
        recorder.flush()
    assert isinstance(durable.error, LeaseLost)


def test_a_sight_is_kept(store: HistoryStore, recorder: StoreRecorder) -> None:
    sight = Sight("boot", 5, 17)
    store.control().note_sight(recorder.process, sight)
    assert lease_of(store, recorder).seen == sight


def test_a_run_belongs_to_who_made_it(store: HistoryStore, recorder: StoreRecorder) -> None:
    flow_run = begin_flow_run(recorder)
    task_run = begin_task_run(recorder, flow_run)
    recorder.flush()
    control = store.control()
    assert control.owner(flow_run.key) == control.owner(task_run.key) == recorder.process
    assert control.owner(recorder.process << 32) == recorder.process


def test_a_request_is_answered_once(store: HistoryStore, recorder: StoreRecorder) -> None:
    control = store.control()
    run = begin_flow_run(recorder)
    recorder.flush()
    first = control.ask(run.key, "pause", {"key": "a", "timeout": 1.5}, "ada")
    second = control.ask(run.key, "cancel", {}, "bob")
    assert (first.run, first.kind, first.detail, first.asked_by) == (
        run.key,
        "pause",
        {"key": "a", "timeout": 1.5},
        "ada",
    )
    assert first.answer is None
    assert control.unanswered() == [first, second]
    assert control.answer(first.key, {"paused": True})
    assert not control.answer(first.key, {"paused": False})
    assert not control.answer(999, {})
    answered = control.request(first.key)
    assert answered is not None
    assert answered.answer == {"paused": True}
    assert answered.answered_us is not None
    assert answered.answered_us >= first.asked_us
    assert control.unanswered() == [second]
    assert control.requests(run.key) == [answered, second]
    assert control.request(999) is None


def test_a_request_can_be_taken_back(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin_flow_run(recorder)
    control = store.control()
    first, second, third = [control.ask(run.key, "why", {}, "ada") for _ in range(3)]
    control.answer(first.key, {"step": None})
    for one in (first, second, second):
        control.retract(one.key)
    assert control.requests(run.key) == control.unanswered() == [third]
    assert control.request(first.key) is None
    assert not control.answer(second.key, {})


def test_every_write_is_a_change(store: HistoryStore) -> None:
    control = store.control()
    before = control.changes()
    assert control.changes() == before
    request = control.ask(5, "pause", {}, "ada")
    asked = control.changes()
    assert asked != before
    control.answer(request.key, {})
    assert control.changes() != asked


def test_what_a_dead_owner_was_asked_is_answered(store: HistoryStore, recorder: StoreRecorder) -> None:
    control = store.control()
    run = begin_flow_run(recorder)
    recorder.flush()
    asked = [control.ask(whom, "cancel", {}, "ada") for whom in (run.key, recorder.process << 32)]
    other = control.ask((recorder.process + 1) << 32, "cancel", {}, "ada")
    control.take_lease(lease_of(store, recorder), "a test")
    rows = [control.request(one.key) for one in asked]
    assert [row.answer for row in rows if row is not None] == [{OVER: LOST}] * 2
    assert control.unanswered() == [other]


def test_requests_go_with_their_run(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin_flow_run(recorder)
    go_through(recorder, run, [RUNNING, COMPLETED])
    recorder.flush()
    request = store.control().ask(run.key, "pause", {}, "ada")
    store.delete_flow_run(run.key)
    assert store.control().request(request.key) is None
    assert store.check() == []
