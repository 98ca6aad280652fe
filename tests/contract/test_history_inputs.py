"""Inputs that are sent to flow runs, the same in every store: what is kept, in which order it is read, and when it goes."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest

from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.sent import AT_ONCE, SentInput
from prefect_core.history.store import HistoryStore
from prefect_core.runs import FlowRun
from prefect_core.state_kinds import CANCELLING, COMPLETED, FAILED, PAUSED, PENDING, RUNNING, StateType
from tests.contract.history_runs import begin_flow_run, begin_task_run, enter, go_through


def begin(recorder: StoreRecorder, *kinds: StateType) -> FlowRun:
    run = begin_flow_run(recorder)
    go_through(recorder, run, [RUNNING, *kinds])
    recorder.flush()
    return run


def sent(run: int, value: bytes = b"1", channel: str = "int-auto", is_pickled: int = 0) -> SentInput:
    return SentInput(run, channel, f"{channel}-{uuid4()}", "ada", 5, is_pickled, value)


def test_inputs_are_read_in_the_order_in_which_they_came(store: HistoryStore, recorder: StoreRecorder) -> None:
    control, run, other = store.control(), begin(recorder), begin(recorder)
    rows = [sent(run.key, bytes([number]), is_pickled=1) for number in (3, 1, 2)]
    for row in rows:
        assert control.send_input(row)
        assert control.send_input(sent(other.key))
    found = control.inputs(run.key, {"int-auto"})
    assert [row._replace(number=0) for row in found] == rows
    assert [row.number for row in found] == sorted({row.number for row in found})
    assert control.inputs(run.key, {"int-auto"}, found[0].number) == found[1:]
    assert control.inputs(run.key, {"int-auto"}, found[-1].number) == []


def test_inputs_are_chosen_by_their_channels(store: HistoryStore, recorder: StoreRecorder) -> None:
    control, run = store.control(), begin(recorder)
    for channel in ("a", "b", "c", "a"):
        control.send_input(sent(run.key, channel=channel))
    assert [row.channel for row in control.inputs(run.key, {"a", "c"})] == ["a", "c", "a"]
    assert control.inputs(run.key, {"d"}) == []
    assert control.inputs(run.key, set()) == []


def test_whether_there_is_an_input_says_the_same_as_reading_them(store: HistoryStore, recorder: StoreRecorder) -> None:
    control, run = store.control(), begin(recorder)
    assert not control.has_input(run.key, {"a", "b"})
    control.send_input(sent(run.key, channel="b"))
    [row] = control.inputs(run.key, {"b"})
    assert control.has_input(run.key, {"a", "b"})
    assert not control.has_input(run.key, {"a"})
    assert not control.has_input(run.key, {"b"}, row.number)
    assert not control.has_input(run.key + 1, {"b"})


def test_many_inputs_are_read_step_by_step(store: HistoryStore, recorder: StoreRecorder) -> None:
    control, run = store.control(), begin(recorder)
    for number in range(AT_ONCE + 3):
        control.send_input(sent(run.key, str(number).encode()))
    first = control.inputs(run.key, {"int-auto"})
    rest = control.inputs(run.key, {"int-auto"}, first[-1].number)
    assert [int(row.value) for row in (*first, *rest)] == list(range(AT_ONCE + 3))
    assert len(first) == AT_ONCE


@pytest.mark.parametrize("kinds", [(), (PAUSED,), (CANCELLING,)])
def test_a_run_that_has_not_ended_is_sent_inputs(
    store: HistoryStore, recorder: StoreRecorder, kinds: tuple[StateType, ...]
) -> None:
    assert store.control().send_input(sent(begin(recorder, *kinds).key))


def test_a_run_that_has_not_begun_is_sent_inputs(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin_flow_run(recorder)
    assert run.state.type is PENDING
    recorder.flush()
    assert store.control().send_input(sent(run.key))


@pytest.mark.parametrize("kind", [COMPLETED, FAILED])
def test_nothing_is_kept_for_a_run_that_has_ended_or_is_not_there(
    store: HistoryStore, recorder: StoreRecorder, kind: StateType
) -> None:
    control, ended = store.control(), begin(recorder, kind)
    task_run = begin_task_run(recorder, begin(recorder))
    enter(recorder, task_run, RUNNING)
    recorder.flush()
    for key in (ended.key, task_run.key, 7):
        assert not control.send_input(sent(key))
        assert not control.has_input(key, {"int-auto"})


def test_inputs_outlive_the_end_of_their_run_and_go_when_it_is_deleted(
    store: HistoryStore, recorder: StoreRecorder
) -> None:
    control, run, other = store.control(), begin(recorder), begin(recorder)
    for one in (run, other):
        control.send_input(sent(one.key))
    go_through(recorder, run, [COMPLETED])
    recorder.flush()
    assert control.has_input(run.key, {"int-auto"})
    assert store.check() == []
    store.delete_flow_run(run.key)
    assert not control.has_input(run.key, {"int-auto"})
    assert control.has_input(other.key, {"int-auto"})
    assert store.check() == []


def test_inputs_go_with_a_run_that_is_pruned(store: HistoryStore, recorder: StoreRecorder) -> None:
    run = begin(recorder)
    store.control().send_input(sent(run.key))
    end = enter(recorder, run, COMPLETED)
    recorder.flush()
    assert store.prune(end.timestamp_us + 1) == 1
    assert not store.control().has_input(run.key, {"int-auto"})


def test_an_input_is_a_change(store: HistoryStore, recorder: StoreRecorder) -> None:
    control, run = store.control(), begin(recorder)
    before = control.changes()
    control.send_input(sent(run.key))
    assert control.changes() != before


def test_of_many_threads_that_send_no_input_is_lost(store: HistoryStore, recorder: StoreRecorder) -> None:
    control, run = store.control(), begin(recorder)
    threads = [
        threading.Thread(target=lambda: [control.send_input(sent(run.key)) for _ in range(10)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = control.inputs(run.key, {"int-auto"})
    assert len({row.key for row in found}) == len({row.number for row in found}) == 40
