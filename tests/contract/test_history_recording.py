"""What the recorder makes of events, the same in every store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from prefect_core import clock
from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.store import HistoryStore
from prefect_core.runs import TaskRun
from prefect_core.state_kinds import (
    CANCELLED,
    COMPLETED,
    CRASHED,
    FAILED,
    PAUSED,
    PENDING,
    RUNNING,
    SCHEDULED,
    StateType,
)
from prefect_core.states import AwaitingRetry, Paused, State
from tests.contract.history_runs import begin_flow_run, begin_task_run, enter, go_through, run_and_complete


@pytest.fixture(params=["at once", "state by state"])
def settle(request: pytest.FixtureRequest, recorder: StoreRecorder) -> Callable[[], None]:
    """Flush between states, or don't: what is recorded must not depend on where batches end."""
    return recorder.flush if request.param == "state by state" else lambda: None


def shown(store: HistoryStore, key: int) -> list[tuple[int, int, str, str, str | None]]:
    return [(state.seq, state.attempt, state.type, state.name, state.message) for state in store.states(key)]


def test_a_plain_task_run_leaves_a_run_an_attempt_and_three_states(
    store: HistoryStore, recorder: StoreRecorder, settle: Callable[[], None]
) -> None:
    flow_run = begin_flow_run(recorder)
    settle()
    run = begin_task_run(recorder, flow_run, "load", 3)
    settle()
    enter(recorder, run, RUNNING)
    settle()
    run.worker = "host:1:MainThread"
    enter(recorder, run, COMPLETED)
    recorder.flush()
    row = store.task_run(run.key)
    assert (row.name, row.task_name, row.task_key, row.index, row.flow_run) == (
        "load-3",
        "load",
        "module.load",
        3,
        flow_run.key,
    )
    assert (row.state_type, row.state_name, row.state_message, row.run_count) == ("COMPLETED", "Completed", None, 1)
    assert (row.created_us, row.started_us, row.ended_us) == (run.created_us, run.started_us, run.ended_us)
    assert (row.id, row.tags, row.inputs, row.worker) == (run.id, (), (), "host:1:MainThread")
    assert row.duration_seconds == (run.ended_us - run.started_us) / 1e6
    assert shown(store, run.key) == [
        (0, 0, "PENDING", "Pending", None),
        (1, 1, "RUNNING", "Running", None),
        (2, 1, "COMPLETED", "Completed", None),
    ]
    [attempt] = store.attempts(run.key)
    assert (attempt.attempt, attempt.started_us, attempt.ended_us) == (1, run.started_us, run.ended_us)
    assert (attempt.state_type, attempt.state_name, attempt.worker) == ("COMPLETED", "Completed", "host:1:MainThread")


def test_a_plain_task_run_that_began_in_an_earlier_batch_is_completed(
    store: HistoryStore, recorder: StoreRecorder
) -> None:
    flow_run = begin_flow_run(recorder)
    source = begin_task_run(recorder, flow_run, "extract")
    run = begin_task_run(recorder, flow_run, "load", 4, inputs=(("x", "task_run", source.uid),))
    recorder.flush()
    row = store.task_run(run.key)
    assert (row.name, row.state_type, row.run_count, row.started_us, row.ended_us) == (
        "load-4",
        "PENDING",
        0,
        None,
        None,
    )
    assert shown(store, run.key) == [(0, 0, "PENDING", "Pending", None)]
    assert store.attempts(run.key) == []
    enter(recorder, run, RUNNING)
    run.worker = "host:1:Thread-3"
    enter(recorder, run, COMPLETED)
    recorder.flush()
    row = store.task_run(run.key)
    assert (row.state_type, row.state_name, row.run_count, row.worker) == (
        "COMPLETED",
        "Completed",
        1,
        "host:1:Thread-3",
    )
    assert (row.created_us, row.started_us, row.ended_us) == (run.created_us, run.started_us, run.ended_us)
    assert (row.flow_run, row.index, [one.uid for one in row.inputs]) == (flow_run.key, 4, [source.uid])
    assert [state.seq for state in store.states(run.key)] == [0, 1, 2]
    assert [attempt.worker for attempt in store.attempts(run.key)] == ["host:1:Thread-3"]
    assert recorder._fold.unfinished == 2


@pytest.mark.parametrize("kinds", [[FAILED], [RUNNING, FAILED], [RUNNING, CRASHED, RUNNING, COMPLETED], [CRASHED]])
def test_a_task_run_that_began_plainly_may_end_otherwise(
    store: HistoryStore, recorder: StoreRecorder, kinds: list[StateType]
) -> None:
    run = begin_task_run(recorder, None)
    recorder.flush()
    go_through(recorder, run, kinds)
    recorder.flush()
    assert [state.type for state in store.states(run.key)] == ["PENDING", *(kind.value for kind in kinds)]
    assert [state.seq for state in store.states(run.key)] == list(range(len(kinds) + 1))
    assert len(store.attempts(run.key)) == kinds.count(RUNNING)
    assert store.task_run(run.key).state_type == kinds[-1].value
    assert recorder._fold.unfinished == 0


@pytest.mark.parametrize("fields", [{}, {"tags": frozenset({"a"})}])
def test_a_body_that_ran_elsewhere_is_heard_of_at_once_and_leaves_the_same(
    store: HistoryStore, recorder: StoreRecorder, settle: Callable[[], None], fields: dict[str, Any]
) -> None:
    run = begin_task_run(recorder, None, **fields)
    settle()
    run_and_complete(recorder, run, "host:2:MainThread")
    recorder.flush()
    assert shown(store, run.key) == [
        (0, 0, "PENDING", "Pending", None),
        (1, 1, "RUNNING", "Running", None),
        (2, 1, "COMPLETED", "Completed", None),
    ]
    moments = [state.timestamp_us for state in store.states(run.key)]
    assert moments == [run.created_us, run.started_us, run.ended_us]
    row = store.task_run(run.key)
    assert (row.state_type, row.run_count, row.worker, row.tags) == (
        "COMPLETED",
        1,
        "host:2:MainThread",
        tuple(fields.get("tags", ())),
    )
    assert (row.started_us, row.ended_us) == (run.started_us, run.ended_us)
    [attempt] = store.attempts(run.key)
    assert (attempt.attempt, attempt.started_us, attempt.ended_us) == (1, run.started_us, run.ended_us)
    assert (attempt.state_type, attempt.worker) == ("COMPLETED", "host:2:MainThread")
    assert recorder._fold.unfinished == 0


def test_a_body_that_ran_elsewhere_may_do_so_after_another_attempt_and_before_one(
    store: HistoryStore, recorder: StoreRecorder, settle: Callable[[], None]
) -> None:
    run = begin_task_run(recorder, None)
    settle()
    go_through(recorder, run, [RUNNING, SCHEDULED])
    settle()
    run_and_complete(recorder, run)
    settle()
    go_through(recorder, run, [RUNNING, FAILED])
    recorder.flush()
    kinds = ["PENDING", "RUNNING", "SCHEDULED", "RUNNING", "COMPLETED", "RUNNING", "FAILED"]
    assert [state.type for state in store.states(run.key)] == kinds
    assert [state.seq for state in store.states(run.key)] == list(range(7))
    attempts = [(one.attempt, one.state_type, one.worker) for one in store.attempts(run.key)]
    assert attempts == [(1, "SCHEDULED", ""), (2, "COMPLETED", "host:2"), (3, "FAILED", "host:2")]
    assert store.task_run(run.key).run_count == 3


def test_a_task_run_that_ended_without_an_attempt_may_go_on(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin_task_run(recorder, None)
    recorder.flush()
    enter(recorder, run, CANCELLED, "Refused", "It was not wanted.")
    recorder.flush()
    assert shown(store, run.key) == [
        (0, 0, "PENDING", "Pending", None),
        (1, 0, "CANCELLED", "Refused", "It was not wanted."),
    ]
    assert store.attempts(run.key) == []
    row = store.task_run(run.key)
    assert (row.state_type, row.state_name, row.state_message) == ("CANCELLED", "Refused", "It was not wanted.")
    assert (row.started_us, row.ended_us, row.run_count, row.worker) == (None, row.state_us, 0, "")
    go_through(recorder, run, [RUNNING, COMPLETED])
    recorder.flush()
    assert [state.type for state in store.states(run.key)] == ["PENDING", "CANCELLED", "RUNNING", "COMPLETED"]
    assert [state.message for state in store.states(run.key)] == [None, "It was not wanted.", None, None]
    assert len(store.attempts(run.key)) == 1


def test_each_retry_is_an_attempt_of_its_own(
    store: HistoryStore, recorder: StoreRecorder, settle: Callable[[], None]
) -> None:
    run = begin_task_run(recorder, None)
    for worker in ("first", "second"):
        enter(recorder, run, RUNNING, "Retrying" if run.attempt else None)
        settle()
        run.worker = worker
        enter(recorder, run, SCHEDULED, "AwaitingRetry", "Boom: no")
        settle()
    enter(recorder, run, RUNNING, "Retrying")
    settle()
    run.worker = "third"
    enter(recorder, run, COMPLETED)
    recorder.flush()
    attempts = store.attempts(run.key)
    assert [(a.attempt, a.state_name, a.worker) for a in attempts] == [
        (1, "AwaitingRetry", "first"),
        (2, "AwaitingRetry", "second"),
        (3, "Completed", "third"),
    ]
    assert all(attempt.ended_us is not None for attempt in attempts)
    assert [state.name for state in store.states(run.key)] == [
        "Pending",
        "Running",
        "AwaitingRetry",
        "Retrying",
        "AwaitingRetry",
        "Retrying",
        "Completed",
    ]
    row = store.task_run(run.key)
    assert (row.run_count, row.started_us) == (3, attempts[0].started_us)


def test_a_retry_without_a_delay_ends_the_attempt_before_it(
    store: HistoryStore, recorder: StoreRecorder, settle: Callable[[], None]
) -> None:
    run = begin_flow_run(recorder)
    settle()
    enter(recorder, run, RUNNING)
    settle()
    enter(recorder, run, RUNNING, "Retrying")
    settle()
    enter(recorder, run, FAILED, message="Boom")
    recorder.flush()
    assert [(a.attempt, a.ended_us is not None) for a in store.attempts(run.key)] == [(1, True), (2, True)]
    row = store.flow_run(run.key)
    assert (row.state_type, row.state_message, row.run_count) == ("FAILED", "Boom", 2)


def test_a_running_run_has_an_open_attempt(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin_task_run(recorder, None)
    enter(recorder, run, RUNNING)
    recorder.flush()
    [attempt] = store.attempts(run.key)
    assert (attempt.ended_us, attempt.state_type) == (None, "RUNNING")
    assert store.task_run(run.key).ended_us is None


def test_a_run_that_never_ran_has_no_attempt(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin_task_run(recorder, None)
    enter(recorder, run, PENDING, "NotReady", "Upstream failed")
    recorder.flush()
    assert store.attempts(run.key) == []
    assert store.task_run(run.key).started_us is None


def test_a_run_that_goes_on_after_its_end_is_continued(
    store: HistoryStore, recorder: StoreRecorder, settle: Callable[[], None]
) -> None:
    run = begin_task_run(recorder, None)
    settle()
    go_through(recorder, run, [RUNNING, COMPLETED])
    recorder.flush()
    enter(recorder, run, RUNNING, "Rerunning", "Value lost")
    recorder.flush()
    assert store.task_run(run.key).ended_us is None
    enter(recorder, run, CRASHED)
    recorder.flush()
    assert [(s.seq, s.attempt, s.type) for s in store.states(run.key)][-2:] == [(3, 2, "RUNNING"), (4, 2, "CRASHED")]
    assert [a.attempt for a in store.attempts(run.key)] == [1, 2]
    row = store.task_run(run.key)
    assert row.started_us == store.states(run.key)[1].timestamp_us
    assert row.ended_us == run.ended_us


def test_names_tags_and_inputs_are_kept(
    store: HistoryStore, recorder: StoreRecorder, settle: Callable[[], None]
) -> None:
    flow_run = begin_flow_run(recorder, tags=frozenset({"b", "a", "ü"}))
    source = begin_task_run(recorder, flow_run, "extract")
    edges = (("x", "task_run", source.uid), ("wait_for", "flow_run", flow_run.uid))
    run = begin_task_run(recorder, flow_run, "load", tags=frozenset({"nightly"}), inputs=edges)
    settle()
    go_through(recorder, run, [RUNNING, COMPLETED])
    settle()
    run.name = "load the rest"
    recorder.renamed(run)
    recorder.flush()
    row = store.task_run(run.key)
    assert (row.name, row.tags) == ("load the rest", ("nightly",))
    assert [(one.parameter, one.kind, one.id) for one in row.inputs] == [
        ("x", "task_run", source.id),
        ("wait_for", "flow_run", flow_run.id),
    ]
    assert store.flow_run(flow_run.key).tags == ("a", "b", "ü")


def test_inputs_of_a_plain_task_run_are_kept(store: HistoryStore, recorder: StoreRecorder) -> None:
    source = begin_task_run(recorder, None, "extract")
    run = begin_task_run(recorder, None, inputs=(("x", "task_run", source.uid),))
    go_through(recorder, run, [RUNNING, COMPLETED])
    recorder.flush()
    assert [one.uid for one in store.task_run(run.key).inputs] == [source.uid]


def test_a_flow_run_renamed_after_its_end_keeps_all_else(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin_flow_run(
        recorder, parameters={"n": 1}, flow_version="3", entrypoint="a.py:etl", runner_name="sequential"
    )
    go_through(recorder, run, [RUNNING, COMPLETED])
    recorder.flush()
    before = store.flow_run(run.key)
    run.name = "brave-newt"
    recorder.renamed(run)
    recorder.flush()
    after = store.flow_run(run.key)
    assert after.name == "brave-newt"
    assert (after.flow_version, after.entrypoint, after.runner, after.parameters) == (
        "3",
        "a.py:etl",
        "sequential",
        {"n": 1},
    )
    assert (after.started_us, after.ended_us, after.state_type) == (before.started_us, before.ended_us, "COMPLETED")
    assert len(store.states(run.key)) == 3


def test_a_flow_run_may_get_other_parameters_and_keeps_them(
    store: HistoryStore, recorder: StoreRecorder, settle: Callable[[], None]
) -> None:
    run = begin_flow_run(recorder, parameters={"n": "1"})
    settle()
    run.parameters = {"n": 1}
    recorder.renamed(run)
    settle()
    go_through(recorder, run, [RUNNING, COMPLETED])
    recorder.flush()
    assert store.flow_run(run.key).parameters == {"n": 1}
    # Of a run that ended the recorder remembers nothing.
    enter(recorder, run, RUNNING, "Rerunning")
    recorder.flush()
    assert store.flow_run(run.key).parameters == {"n": 1}


def test_a_subflow_is_tied_to_its_parent(
    store: HistoryStore, recorder: StoreRecorder, settle: Callable[[], None]
) -> None:
    parent = begin_flow_run(recorder, "parent")
    tracking = begin_task_run(recorder, parent, "child")
    settle()
    child = begin_flow_run(recorder, "child", parent_task_run=tracking)
    go_through(recorder, child, [RUNNING, COMPLETED])
    settle()
    go_through(recorder, tracking, [RUNNING, COMPLETED])
    recorder.flush()
    row = store.flow_run(child.key)
    assert (row.parent_task_run, row.parent_flow_run) == (tracking.key, parent.key)
    assert store.task_run(tracking.key).child_flow_run == child.key
    assert [one.key for one in store.children(parent.key)] == [child.key]
    assert store.check() == []


def test_a_task_run_inside_a_task_run_names_it(store: HistoryStore, recorder: StoreRecorder) -> None:
    outer = begin_task_run(recorder, None, "outer")
    inner = begin_task_run(recorder, None, "inner", parent_task_run=outer)
    go_through(recorder, inner, [RUNNING, COMPLETED])
    recorder.flush()
    assert store.task_run(inner.key).parent_task_run == outer.key


def test_details_of_a_state_are_kept(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin_flow_run(recorder)
    enter(recorder, run, RUNNING)
    for state in (AwaitingRetry(scheduled_time=datetime(2030, 1, 2, tzinfo=UTC)), Paused(pause_key="approval")):
        run.state = state
        recorder.entered(run, state)
    recorder.flush()
    awaiting, paused = store.states(run.key)[2:]
    assert awaiting.details == {"scheduled_time": "2030-01-02T00:00:00+00:00"}
    assert (paused.type, paused.details["pause_key"]) == (PAUSED.value, "approval")


def test_the_value_of_a_state_is_not_kept_alive(store: HistoryStore, recorder: StoreRecorder) -> None:
    class Value:
        pass

    import weakref

    run = begin_task_run(recorder, None)
    enter(recorder, run, RUNNING)
    value = Value()
    gone = weakref.ref(value)
    state = State(COMPLETED, data=value)
    run.state = state
    recorder.entered(run, state)
    run.state = State(COMPLETED)
    del value, state
    assert gone() is None


def test_parameters_are_kept_as_json_and_what_it_cannot_hold_as_text(
    store: HistoryStore, recorder: StoreRecorder
) -> None:
    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError

    given: dict[str, Any] = {
        "n": 1,
        "day": datetime(2026, 1, 2, tzinfo=UTC),
        "path": Path("a/b"),
        "names": {"x"},
        "obj": object(),
        "silent": Silent(),
        "odd": {1: 2},
    }
    run = begin_flow_run(recorder, parameters=given)
    recorder.flush()
    kept = store.flow_run(run.key).parameters
    assert kept["n"] == 1
    assert kept["day"] == "2026-01-02T00:00:00+00:00"
    assert kept["path"] == "a/b"
    assert kept["names"] == ["x"]
    assert kept["obj"].startswith("<object object")
    assert "RuntimeError" in kept["silent"]


@pytest.mark.parametrize("text", ["\ud800 lone surrogate", "nul \0 inside", "line\nbreak", "日本語 🎉", "x" * 100_000])
def test_any_text_can_be_recorded(store: HistoryStore, recorder: StoreRecorder, text: str) -> None:
    run = begin_task_run(recorder, None)
    enter(recorder, run, RUNNING)
    enter(recorder, run, FAILED, message=text)
    recorder.logged(run, 20, "logger", text, clock.now_us())
    recorder.flush()
    kept = store.task_run(run.key).state_message
    assert kept is not None
    assert kept.encode("utf-8", "backslashreplace") == text.encode("utf-8", "backslashreplace")
    assert len(store.logs(run.key)) == 1


def test_a_thousand_runs_written_by_four_threads_are_all_there(store: HistoryStore, recorder: StoreRecorder) -> None:
    import threading

    flow_run = begin_flow_run(recorder)
    made: list[TaskRun] = []

    def record(part: int) -> None:
        for index in range(part * 250, part * 250 + 250):
            run = begin_task_run(recorder, flow_run, "load", index)
            made.append(run)
            go_through(recorder, run, [RUNNING, COMPLETED if index % 7 else FAILED])

    threads = [threading.Thread(target=record, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.flush()
    assert len({run.key for run in made}) == 1000
    assert store.counts_by_state(flow_run.key) == {"Completed": 857, "Failed": 143}
    assert store.stats().rows["state"] == 3001
    assert store.check() == []
