"""Flow runs under the third driver: whatever is thrown at whichever step, the run and all that it submitted reach their end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefect_core import flow, task
from prefect_core.engine.flow_run import FlowCall, flow_life
from prefect_core.engine.steps import Block, Call, Wait
from prefect_core.errors import HistoryError
from prefect_core.payload import Payload, Receipt
from prefect_core.state_kinds import COMPLETED, FAILED
from prefect_core.states import State
from prefect_core.task_runners import TaskRunner
from prefect_core.testing import ListRecorder
from prefect_core.testing.drive import Driven, Fault, attempt, drive
from tests.lifecycle.invariants import check_over, recorded
from tests.lifecycle.test_task_life import ENDS, FAULTS, faults


@dataclass
class Scene:
    """A flow call, told in plain data. `children` say how each submitted task behaves: see `StageRunner`."""

    bodies: list[str]
    children: list[str] = field(default_factory=list)
    retries: int = 0
    delay: float = 0
    hooks: list[str] = field(default_factory=list)
    parameters: str = "good"
    run_name: str = "plain"
    runner: str = "fine"
    final_state_from: str = "children"
    is_async: bool = False
    faults: list[tuple[int, str, bool]] = field(default_factory=list)


class StageRunner(TaskRunner):
    """Runs each child as its first argument says: "at once", "later" (when somebody waits for it), "long" or "refuse".

    A "long" body has begun at once and ends only for who waits without a limit: no grace is enough for it.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.waiting: list[tuple[Payload, Callable[[Receipt], None]]] = []

    def duplicate(self) -> StageRunner:
        fresh = StageRunner(self.stage)
        self.stage.runners.append(fresh)
        return fresh

    def start(self, host: Any) -> None:
        self.stage.started += 1
        if self.stage.scene.runner == "won't start":
            raise ConnectionError("no cluster")

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        kind = payload.args[0]
        if kind == "refuse":
            raise TypeError("can't travel")
        if kind == "at once":
            done(attempt(payload))
        else:
            if kind == "long":
                payload.started(0)
                payload.started = None
            self.waiting.append((payload, done))

    def cancel(self, payload: Payload) -> bool:
        if payload.args[0] == "long":
            return False
        kept = [pair for pair in self.waiting if pair[0] is not payload]
        is_gone = len(kept) < len(self.waiting)
        self.waiting = kept
        return is_gone

    def stop(self) -> None:
        self.stage.stopped += 1
        if self.stage.scene.runner == "won't stop":
            raise ConnectionError("still there")

    def let_pass(self, has_grace_only: bool) -> None:
        """Run what waits."""
        waiting, self.waiting = self.waiting, []
        for payload, done in waiting:
            if payload.args[0] != "long" or not has_grace_only:
                done(attempt(payload))


class Stage:
    """A scene being played."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.bodies = self.children = self.started = self.stopped = 0
        self.runners: list[StageRunner] = []
        self.hook_calls: list[str] = []
        parameters = {"good": "5", "bad": "five", "huge": "1" * 600_000}
        self.call = FlowCall(self._flow(), (parameters[scene.parameters],), {}, None, None)

    def play(self) -> Driven[State]:
        hits = [Fault(step, FAULTS[name](), after) for step, name, after in self.scene.faults]
        return drive(flow_life(self.call), hits, wait=self._wait)

    def _wait(self, step: Wait) -> bool:
        for runner in self.runners:
            while runner.waiting:
                runner.let_pass(step.timeout is not None)
        return all(signal.done() for signal in step.signals)

    def _flow(self) -> Any:
        scene = self.scene

        @task
        def child(kind: str, fails: bool = False) -> str:
            self.children += 1
            if fails:
                raise ValueError("child")
            return kind

        def body(number: int) -> Any:
            assert isinstance(number, int) or scene.parameters == "huge"
            self.bodies += 1
            for kind in scene.children:
                name, _, outcome = kind.partition(", ")
                child.submit(name, outcome == "fails")
            end = ENDS[scene.bodies[min(self.bodies, len(scene.bodies)) - 1]]()
            if isinstance(end, BaseException):
                raise end
            return end

        async def async_body(number: int) -> Any:
            return body(number)

        options: dict[str, Any] = {f"on_{kind}": self._hooks(kind) for kind in HOOKS.values()}
        if scene.run_name != "plain":
            options["flow_run_name"] = "{number}" if scene.run_name == "good" else "{nobody}"
        function = async_body if scene.is_async else body
        function.__annotations__["number"] = str if scene.parameters == "huge" else int
        return flow(
            function,
            name="scene",
            retries=scene.retries,
            retry_delay_seconds=scene.delay,
            task_runner=StageRunner(self),
            final_state_from=scene.final_state_from,
            **options,
        )

    def _hooks(self, kind: str) -> list[Any]:
        def called(flow: Any, run: Any, state: State) -> None:
            self.hook_calls.append(kind)

        def failing(flow: Any, run: Any, state: State) -> None:
            called(flow, run, state)
            raise ZeroDivisionError

        return [{"fine": called, "failing": failing}[name] for name in self.scene.hooks]


HOOKS = {
    "RUNNING": "running",
    "COMPLETED": "completion",
    "FAILED": "failure",
    "CANCELLED": "cancellation",
    "CRASHED": "crashed",
}
CHILDREN = ["at once", "at once, fails", "later", "later, fails", "long", "long, fails", "refuse"]
scenes = st.builds(
    Scene,
    bodies=st.lists(st.sampled_from(sorted(ENDS)), min_size=1, max_size=4),
    children=st.lists(st.sampled_from(CHILDREN), max_size=4),
    retries=st.integers(0, 2),
    delay=st.sampled_from([0, 5.0]),
    hooks=st.lists(st.sampled_from(["fine", "failing"]), max_size=2),
    parameters=st.sampled_from(["good"] * 8 + ["bad", "huge"]),
    run_name=st.sampled_from(["plain", "plain", "good", "bad"]),
    runner=st.sampled_from(["fine"] * 4 + ["won't start", "won't stop"]),
    final_state_from=st.sampled_from(["children", "return_value"]),
    is_async=st.booleans(),
)


def starts(scene: Scene) -> bool:
    return scene.parameters == "good" and scene.run_name != "bad"


def check_all_over(stage: Stage, recorder: ListRecorder) -> None:
    for run in recorder.runs():
        check_over(recorder, run)
    assert stage.call.run.run_count == stage.bodies
    assert len(recorder.runs()) == 1 + stage.bodies * len(stage.scene.children)
    # A runner is stopped once, even one whose start was cut short.
    assert stage.started <= stage.stopped == len(stage.runners)


@given(scenes)
def test_a_flow_run_ends_as_its_bodies_say(scene: Scene) -> None:
    with recorded() as recorder:
        stage = Stage(scene)
        driven = stage.play()
        run = stage.call.run
        check_all_over(stage, recorder)
        assert driven.error is None
        assert driven.value is run.state
        assert run.state.is_final()
        if not starts(scene):
            assert stage.bodies == stage.started == 0
            assert run.state.type is FAILED
        elif scene.runner == "won't start":
            assert stage.bodies == 0
            assert stage.started == scene.retries + 1
            assert "no cluster" in run.state.message
        else:
            assert stage.started == stage.bodies
            assert 1 <= stage.bodies <= scene.retries + 1
            assert driven.slept() == [scene.delay] * (stage.bodies - 1) * bool(scene.delay)
            if run.state.type is FAILED:
                assert stage.bodies == scene.retries + 1
        ended = HOOKS[run.state.type.value]
        assert stage.hook_calls == (["running"] * len(scene.hooks)) * stage.bodies + [ended] * len(scene.hooks)


@given(scenes, st.lists(faults, min_size=1, max_size=3))
@example(Scene(["a value"], ["long"]), [(3, "ctrl-c", False)])
@example(Scene(["an exception"], retries=1, delay=5.0), [(5, "sigterm", False)])
@example(Scene(["a value"]), [(0, "an error", False)])
@example(Scene(["a value"]), [(4, "ctrl-c", False)])
@example(Scene(["an exception"], ["long", "later"]), [(3, "sigterm", True)])
def test_a_flow_run_that_is_hit_at_any_step_ends_with_all_its_tasks(
    scene: Scene, hits: list[tuple[int, str, bool]]
) -> None:
    scene.faults = hits
    with recorded() as recorder:
        stage = Stage(scene)
        driven = stage.play()
        check_all_over(stage, recorder)
        # What hits the last flush or a hook goes on to the caller, since the run has ended by then; all else is in the state.
        assert stage.call.run.state.is_final()
        assert driven.error is None or driven.value is None


@given(scenes)
def test_start_and_end_are_durable_before_anybody_sees_them(scene: Scene) -> None:
    with recorded() as recorder:
        stage = Stage(scene)
        flushes: list[tuple[int, str]] = []
        recorder.flush = lambda: flushes.append((stage.bodies, stage.call.run.state.type.value))
        driven = stage.play()
        assert flushes[-1] == (stage.bodies, stage.call.run.state.type.value)
        if starts(scene):
            assert flushes[0] == (0, "PENDING")
            assert (
                driven.kinds().index("Block") < driven.kinds().index("Call" if "Call" in driven.kinds() else "Block")
                or not stage.bodies
            )


def test_a_history_that_cannot_be_written_is_an_error_before_the_body_starts() -> None:
    with recorded() as recorder:
        recorder.flush_error = HistoryError("disk full")
        stage = Stage(Scene(["a value"]))
        driven = stage.play()
        assert stage.bodies == 0
        assert "Call" not in driven.kinds()
        with pytest.raises(HistoryError, match="disk full"):
            driven.value.result()


def test_a_history_that_fails_at_the_end_loses_no_result() -> None:
    with recorded() as recorder:
        stage = Stage(Scene(["a value"]))

        def fail_after_body() -> None:
            if stage.bodies:
                raise HistoryError("disk full")

        recorder.flush = fail_after_body
        assert stage.play().value.result() == 7


def test_the_second_interrupt_ends_the_grace_of_the_first() -> None:
    with recorded() as recorder:
        # 0 flush, 1 start, 2 body, 3 wait for children, 4 the grace.
        stage = Stage(Scene(["a value"], ["long", "later"], faults=[(3, "ctrl-c", False), (4, "ctrl-c", False)]))
        driven = stage.play()
        assert driven.kinds()[:5] == ["Block", "Block", "Call", "Wait", "Wait"]
        check_all_over(stage, recorder)
        assert [str(run.state) for run in recorder.runs()] == [
            "Crashed('Execution was aborted by an interrupt signal.')",
            "Crashed('Execution was aborted by an interrupt signal.')",
            "Cancelled('The flow run ended before this task run could start.')",
        ]


def test_a_run_whose_runner_does_not_start_is_tried_as_often_as_it_says() -> None:
    with recorded():
        stage = Stage(Scene(["a value"], retries=2, runner="won't start"))
        driven = stage.play()
        assert stage.started == 3
        assert driven.value.type is FAILED
        assert isinstance(driven.steps[1], Block)
        assert not [step for step in driven.steps if isinstance(step, Call)]


def test_a_flow_that_completes_is_not_hurt_by_a_runner_that_will_not_stop() -> None:
    with recorded():
        stage = Stage(Scene(["a value"], ["later"], runner="won't stop"))
        assert stage.play().value.type is COMPLETED
