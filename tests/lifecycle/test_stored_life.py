"""Stored tasks and flows under the third driver: whatever fails on the way from the body to the acknowledgement, each run ends once."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_core.context import FlowRunContext
from prefect_core.engine import launch
from prefect_core.engine.dispatcher import Dispatcher
from prefect_core.engine.ledger import Earlier, Ledger
from prefect_core.engine.steps import Block, Wait
from prefect_core.engine.task_call import TaskCall
from prefect_core.engine.task_run import task_life
from prefect_core.errors import HistoryError, SerializationError, StorageError
from prefect_core.flows import flow
from prefect_core.results.kept import KeptValue
from prefect_core.runs import FlowRun, TaskRun
from prefect_core.serializers import Serializer, resolve_serializer
from prefect_core.settings import temporary_settings
from prefect_core.state_kinds import CANCELLED, COMPLETED, FAILED, PENDING, RUNNING
from prefect_core.states import NO_DATA, State
from prefect_core.storage.memory import MemoryStorage
from prefect_core.task_runners import resolve_runner
from prefect_core.tasks import task
from prefect_core.testing import ListRecorder
from prefect_core.testing.drive import Driven, Fault, drive
from prefect_core.waiting import block_until_done
from tests.lifecycle import test_flow_life as flows
from tests.lifecycle import test_task_life as tasks
from tests.lifecycle.invariants import check_over, recorded
from tests.lifecycle.test_task_life import FAULTS, REFUSED, TIMED_OUT, faults


class Failing(MemoryStorage):
    """A storage that can't be reached."""

    def write(self, key: str, pieces: Any) -> Any:
        raise StorageError(f"{self.url} can't be reached")

    def open(self, key: str) -> Any:
        raise StorageError(f"{self.url} can't be reached")


class Unwilling(Serializer):
    """A serializer that dumps nothing."""

    name = "unwilling"

    def dumps(self, value: Any) -> bytes:
        raise ValueError("no such value")

    def loads(self, data: bytes) -> Any:
        raise ValueError("no such bytes")


WAYS: dict[str, dict[str, Any]] = {
    "inside": {},
    "outside": {"result_storage": MemoryStorage("life")},
    "not in memory": {"result_storage": MemoryStorage("life"), "cache_result_in_memory": False},
    "no storage": {"result_storage": Failing("gone")},
    "no serializer": {"result_serializer": Unwilling()},
    "no history": {},
}


class TaskStage(tasks.Stage):
    """A scene with a stored task."""

    def __init__(self, scene: tasks.Scene, way: str) -> None:
        self.way = way
        super().__init__(scene)

    def _task(self) -> Any:
        return super()._task().with_options(persist_result=True, **WAYS[self.way])


class FlowStage(flows.Stage):
    """A scene with a stored flow, the tasks in which are stored too: inside the history, since a storage is written on a thread."""

    def __init__(self, scene: flows.Scene, way: str) -> None:
        if {"result_storage"} & WAYS[way].keys():
            scene.children = []
        self.way = way
        super().__init__(scene)

    def _flow(self) -> Any:
        return super()._flow().with_options(persist_result=True, **WAYS[self.way])


def fail_durably(recorder: ListRecorder, way: str) -> None:
    if way == "no history":
        failed = HistoryError("disk full")
        made = recorder.durable

        def durable() -> Any:
            done = made()
            done.error = failed
            return done

        recorder.durable = durable


ways = st.sampled_from(sorted(WAYS))


@given(tasks.scenes, ways)
def test_a_stored_task_completes_only_if_its_value_is_stored(scene: tasks.Scene, way: str) -> None:
    with recorded() as recorder:
        fail_durably(recorder, way)
        stage = TaskStage(scene, way)
        driven = stage.play()
        run = stage.call.run
        check_over(recorder, run)
        assert driven.error is None
        assert run.run_count == stage.began
        if run.state.type is COMPLETED:
            assert way not in ("no storage", "no serializer")
            assert run.state.kept is not None
            # Its durability is waited for, once, after the state is recorded and before anybody hears of it.
            assert driven.kinds().count("Wait") >= 1
        if way == "no serializer" and isinstance(run.state.data, SerializationError):
            # Another body would only return the same again.
            assert scene.bodies[min(stage.began + stage.refused, len(scene.bodies)) - 1] not in (REFUSED, TIMED_OUT)


@given(tasks.scenes, ways, st.lists(faults, min_size=1, max_size=3))
def test_a_stored_task_that_is_hit_at_any_step_ends_once(
    scene: tasks.Scene, way: str, hits: list[tuple[int, str, bool]]
) -> None:
    scene.faults = hits
    with recorded() as recorder:
        fail_durably(recorder, way)
        stage = TaskStage(scene, way)
        driven = stage.play()
        check_over(recorder, stage.call.run)
        assert stage.call.run.run_count == stage.began
        check_that_nothing_is_swallowed(driven, hits, stage.call.run)


def check_that_nothing_is_swallowed(driven: Driven[Any], hits: list[tuple[int, str, bool]], run: Any) -> None:
    """What struck a run while it was made durable can't be in its state, and must go on to whoever called it."""
    for step, name in {step: name for step, name, _ in hits}.items():
        if step < len(driven.steps) and is_durable(driven.steps[step]):
            assert run.state.type is COMPLETED
            assert type(driven.error) is type(FAULTS[name]())


@given(flows.scenes, ways)
def test_a_stored_flow_completes_only_if_its_value_is_stored(scene: flows.Scene, way: str) -> None:
    with recorded() as recorder:
        fail_durably(recorder, way)
        stage = FlowStage(scene, way)
        driven = stage.play()
        run = stage.call.run
        flows.check_all_over(stage, recorder)
        assert driven.error is None
        if run.state.type is COMPLETED and not isinstance(run.state.data, State | list):
            assert way not in ("no storage", "no serializer")


@given(flows.scenes, ways, st.lists(faults, min_size=1, max_size=3))
def test_a_stored_flow_that_is_hit_at_any_step_ends_once_with_all_its_tasks(
    scene: flows.Scene, way: str, hits: list[tuple[int, str, bool]]
) -> None:
    scene.faults = hits
    with recorded() as recorder:
        fail_durably(recorder, way)
        stage = FlowStage(scene, way)
        stage.play()
        flows.check_all_over(stage, recorder)
        assert stage.call.run.state.is_final()


INTERRUPTS = sorted(set(FAULTS) - {"an error"})


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", sorted(FAULTS))
@pytest.mark.parametrize("kind", ["task", "flow"])
def test_what_strikes_the_wait_for_the_history_reaches_the_caller(kind: str, name: str, after: bool) -> None:
    with recorded():
        stage = stage_of(kind, [])
        [step] = [number for number, one in enumerate(stage.play().steps) if is_durable(one)]
    with recorded() as recorder:
        stage = stage_of(kind, [(step, name, after)])
        driven = stage.play()
        check_over(recorder, stage.call.run)
        assert stage.call.run.state.type is COMPLETED
        assert type(driven.error) is type(FAULTS[name]())


def stage_of(kind: str, hits: list[tuple[int, str, bool]]) -> Any:
    if kind == "task":
        return TaskStage(tasks.Scene(["a value"], faults=hits), "inside")
    return FlowStage(flows.Scene(["a value"], faults=hits), "inside")


def is_durable(step: Any) -> bool:
    return isinstance(step, Wait) and any(hasattr(signal, "error") for signal in step.signals)


def test_ctrl_c_while_a_task_of_a_sequential_runner_is_made_durable_ends_its_flow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strikes = [KeyboardInterrupt()]

    def wait(signals: Any, timeout: float | None = None) -> bool:
        if strikes:
            raise strikes.pop()
        return block_until_done(signals, timeout)

    monkeypatch.setattr(launch, "block_until_done", wait)

    @flow(task_runner="sequential")
    def main() -> int:
        future = known.submit()
        return future.result() + 1

    with recorded() as recorder, temporary_settings(interrupt_grace_seconds=1000):
        # Had the run stayed open, the grace would be waited for.
        state = main(return_state=True)
        assert state.is_crashed()
        assert isinstance(state.data, KeyboardInterrupt)
        [_, run] = recorder.runs()
        check_over(recorder, run)
        assert run.state.type is COMPLETED


def test_ctrl_c_while_a_task_of_a_sequential_runner_waits_for_its_input_crashes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = threading.Event()
    runs: list[TaskRun] = []

    def wait(signals: Any, timeout: float | None = None) -> bool:
        runs.extend(signal.task_run for signal in signals)
        gate.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "block_until_done", wait)
    gated = task(lambda: gate.wait(20), name="gated", task_runner="concurrent")
    behind = task(lambda value: value, name="behind")

    @flow(task_runner="sequential")
    def main() -> None:
        behind.submit(gated.submit())

    with recorded() as recorder:
        assert not main(return_state=True).is_completed()
        assert [run.task_name for run in runs] == ["gated"]
        for run in recorder.runs():
            check_over(recorder, run)
        assert recorder.runs()[-1].state.is_crashed()


# Runs of earlier attempts.


@task(persist_result=True, name="known")
def known() -> int:
    return 8


class Again:
    """A call that was made in an earlier attempt of its flow run, and completed with 7."""

    def __init__(self, way: str) -> None:
        self.storage = MemoryStorage("life") if way != "no storage" else Failing("gone")
        flow_run = FlowRun(State(RUNNING), "main", "main")
        around = FlowRunContext(flow(lambda: None, name="main"), flow_run, {}, False, None)
        around.dispatcher = Dispatcher(resolve_runner("sequential"))
        around.ledger = self.ledger = Ledger()
        first = TaskCall(known, (), {}, None, around)
        assert first.keeping is not None
        assert first.keeping.identity is not None
        self.identity = first.keeping.identity.value
        self.state = State(COMPLETED, data=NO_DATA)
        self.earlier = Earlier(self._run(flow_run), self.state, self._kept(way), known.code)
        assert self.identity is not None
        self.ledger.remember(self.identity, self.earlier)
        around.dispatcher = Dispatcher(resolve_runner("sequential"))
        self.call = TaskCall(known, (), {}, None, around)

    def _run(self, flow_run: FlowRun) -> TaskRun:
        run = TaskRun(self.state, "known", known.task_key, flow_run, 0, frozenset())
        run.key, run.attempt, run.run_count = 77, 1, 1
        run.ended_us = self.state.timestamp_us
        return run

    def _kept(self, way: str) -> KeptValue:
        serializer = resolve_serializer("pickle")
        kept = KeptValue(5, "pickle", ())
        pieces = serializer.dump(7)
        if way == "inside":
            kept.put_inside(pieces)
        else:
            storage = MemoryStorage("life")
            written = storage.write("object", pieces)
            kept.put_outside("memory://life" if way == "outside" else "memory://gone-for-good", "object", written)
        kept.is_new = False
        return kept


@pytest.mark.parametrize("way", ["inside", "outside"])
def test_a_call_that_is_taken_over_says_nothing_to_the_history(way: str) -> None:
    with recorded() as recorder:
        again = Again(way)
        before = len(recorder.events)
        assert again.call.run is again.earlier.run
        assert again.call.run.state.type is PENDING
        driven = drive(task_life(again.call))
        assert driven.value is again.call.run.state
        assert driven.value.result() == 7
        assert (driven.value.timestamp_us, again.call.run.ended_us) == (again.state.timestamp_us,) * 2
        assert len(recorder.events) == before


def test_a_call_whose_value_is_gone_has_another_attempt() -> None:
    with recorded() as recorder:
        again = Again("gone")
        driven = drive(task_life(again.call))
        assert driven.value is not None
        assert driven.value.result() == 8
        run = again.call.run
        assert [state.name for state in recorder.states_of(run)] == ["Pending", "Retrying", "Completed"]
        assert (run.attempt, run.run_count) == (2, 2)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_call_that_is_hit_while_its_value_is_read_is_as_it_was_for_the_next_attempt(name: str, after: bool) -> None:
    with recorded() as recorder:
        again = Again("outside")
        before = len(recorder.events)
        driven = drive(task_life(again.call), [Fault(0, FAULTS[name](), after)])
        assert isinstance(driven.steps[0], Block)
        if name == "an error":
            # As good as a storage that fails: it runs again.
            assert driven.value is not None
            assert driven.value.result() == 8
            return
        assert again.call.run.state.is_crashed()
        assert len(recorder.events) == before
        assert again.identity is not None
        assert again.ledger.find(again.identity, None) is again.earlier


@pytest.mark.parametrize("kind", [CANCELLED, FAILED])
def test_a_call_that_somebody_ends_while_its_value_is_read_keeps_that_end(kind: Any) -> None:
    with recorded() as recorder:
        again = Again("outside")
        before = len(recorder.events)
        life = task_life(again.call)
        step = next(life)
        assert isinstance(step, Block)
        end = State(kind)
        assert again.call.end(end)
        assert not again.call.end(State(CANCELLED))
        with pytest.raises(StopIteration) as stop:
            life.send(step.work())
        assert stop.value.value is end
        assert len(recorder.events) == before


def test_each_way_is_met() -> None:
    """Of the scenes above, those without a fault go through the steps that faults are thrown into."""
    kinds: dict[str, list[str]] = {}
    for way in WAYS:
        with recorded():
            kinds[way] = TaskStage(tasks.Scene(["a value"]), way).play().kinds()
    call: Callable[..., list[str]] = lambda *more: ["Call", *more]
    assert kinds == {
        "inside": call("Wait"),
        "outside": call("Block", "Wait"),
        "not in memory": call("Block", "Wait"),
        "no storage": call("Block"),
        "no serializer": call(),
        "no history": call("Wait"),
    }
    assert dataclasses.is_dataclass(tasks.Scene)
