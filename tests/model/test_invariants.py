"""Each invariant of the model fails on a history, or a journal, that breaks it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from prefect_core import clock
from prefect_core.history.batch import Batch
from prefect_core.history.memory import MemoryStore
from prefect_core.history.pauses import PauseRow
from prefect_core.history.recorder import StoreRecorder
from prefect_core.runs import FlowRun
from prefect_core.state_kinds import CANCELLING, COMPLETED, CRASHED, PAUSED, RUNNING
from prefect_core.states import State
from tests.contract.history_runs import begin_flow_run, begin_task_run, enter, go_through
from tests.model import invariants
from tests.model.invariants import Witness
from tests.model.stage import Body


@pytest.fixture
def recorder() -> Iterator[StoreRecorder]:
    made = StoreRecorder(MemoryStore())
    yield made
    made.close()


@pytest.fixture
def store(recorder: StoreRecorder) -> MemoryStore:
    assert isinstance(recorder.store, MemoryStore)
    return recorder.store


@pytest.fixture
def run(recorder: StoreRecorder) -> FlowRun:
    made = begin_flow_run(recorder)
    enter(recorder, made, RUNNING)
    recorder.flush()
    return made


def body(run: FlowRun, **told: object) -> Body:
    told = {"name": "story", "run": run.key, "attempt": 1, "process": 1, "at_us": clock.now_us(), **told}
    with socket.socket() as line:
        return Body(line, told)


def test_what_keeps_the_rules_passes(store: MemoryStore, recorder: StoreRecorder, run: FlowRun) -> None:
    witness = Witness()
    witness.look(store, run.key)
    journal = [body(run)]
    enter(recorder, run, COMPLETED)
    recorder.flush()
    witness.look(store, run.key)
    invariants.check_bodies(journal, store, run.key)
    invariants.check_attempts(journal, store, set())


def test_a_final_state_that_changes_is_seen(store: MemoryStore, recorder: StoreRecorder, run: FlowRun) -> None:
    enter(recorder, run, COMPLETED)
    recorder.flush()
    witness = Witness()
    witness.look(store, run.key)
    states = store._states[run.key]
    states[max(states)] = states[max(states)].__class__(
        run.key, max(states), 1, "CRASHED", "Crashed", None, run.state.timestamp_us, None
    )
    with pytest.raises(AssertionError, match="became"):
        witness.look(store, run.key)


def test_an_attempt_that_goes_on_after_its_end_is_seen(
    store: MemoryStore, recorder: StoreRecorder, run: FlowRun
) -> None:
    enter(recorder, run, CRASHED)
    run.attempt -= 1
    enter(recorder, run, RUNNING)
    recorder.flush()
    with pytest.raises(AssertionError, match="goes on after its end"):
        Witness().look(store, run.key)


def test_a_state_that_may_not_follow_is_seen(store: MemoryStore, recorder: StoreRecorder, run: FlowRun) -> None:
    enter(recorder, run, CANCELLING)
    enter(recorder, run, RUNNING)
    recorder.flush()
    with pytest.raises(AssertionError, match="'Cancelling', 'Running'"):
        Witness().look(store, run.key)


def test_a_root_flow_run_that_runs_again_though_nobody_was_let_is_seen(
    store: MemoryStore, recorder: StoreRecorder, run: FlowRun
) -> None:
    go_through(recorder, run, [CRASHED, RUNNING])
    recorder.flush()
    with pytest.raises(AssertionError, match="let run again 0 times"):
        Witness().look(store, run.key)


def test_a_body_that_begins_in_a_pause_is_seen(store: MemoryStore, recorder: StoreRecorder, run: FlowRun) -> None:
    inside = begin_task_run(recorder, run)
    state = enter(recorder, run, PAUSED)
    recorder.noted([PauseRow(run.key, state.timestamp_us, "a", 0).noted()])
    began = State(RUNNING)
    began.timestamp_us = state.timestamp_us + 1
    inside.run_count = inside.attempt = 1
    inside.started_us = began.timestamp_us
    inside.state = began
    recorder.entered(inside, began)
    recorder.flush()
    with pytest.raises(AssertionError, match="began while the flow run was paused"):
        Witness().look(store, run.key)


def test_a_pause_without_its_state_is_seen(store: MemoryStore, recorder: StoreRecorder, run: FlowRun) -> None:
    batch = Batch()
    batch.of_results["pause"] = [tuple(PauseRow(run.key, 5, "a", 0))]
    store.write(batch)
    with pytest.raises(AssertionError):
        Witness().look(store, run.key)


def test_a_run_that_another_process_made_is_seen(store: MemoryStore, recorder: StoreRecorder, run: FlowRun) -> None:
    other = StoreRecorder(store)
    begin_task_run(other, run)
    other.flush()
    with pytest.raises(AssertionError):
        Witness().look(store, run.key)
    other.close()


def test_two_bodies_of_an_attempt_are_seen(store: MemoryStore, run: FlowRun) -> None:
    with pytest.raises(AssertionError, match="two bodies of one attempt"):
        invariants.check_bodies([body(run), body(run)], store, run.key)


def test_an_attempt_of_the_last_moments_of_a_lost_process_may_begin_again(store: MemoryStore, run: FlowRun) -> None:
    bodies = [body(run), body(run)]
    lost_us = bodies[0].at_us
    invariants.check_bodies(bodies, store, run.key, {1: lost_us + invariants.LAST_MOMENTS_US // 2})
    with pytest.raises(AssertionError, match="two bodies of one attempt"):
        invariants.check_bodies(bodies, store, run.key, {1: lost_us + 2 * invariants.LAST_MOMENTS_US})


def test_a_body_in_a_process_that_never_had_the_run_is_seen(store: MemoryStore, run: FlowRun) -> None:
    with pytest.raises(AssertionError, match="never had the run"):
        invariants.check_bodies([body(run, process=2)], store, run.key)


def test_an_attempt_without_a_body_and_a_body_without_an_attempt_are_seen(store: MemoryStore, run: FlowRun) -> None:
    with pytest.raises(AssertionError, match="attempts"):
        invariants.check_attempts([], store, set())
    with pytest.raises(AssertionError, match="attempts"):
        invariants.check_attempts([body(run), body(run, attempt=2)], store, set())
    with pytest.raises(AssertionError):
        invariants.check_attempts([body(run, at_us=run.started_us - 1)], store, set())
