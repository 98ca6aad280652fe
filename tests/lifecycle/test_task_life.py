"""Task runs under the third driver: whatever is thrown at whichever step, the run reaches its end and says so once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from prefect_core import allow_failure, task
from prefect_core.engine.steps import Call, Wait
from prefect_core.engine.task_call import TaskCall
from prefect_core.engine.task_run import task_life
from prefect_core.errors import TerminationSignal
from prefect_core.futures import PrefectFuture
from prefect_core.payload import Payload, Receipt
from prefect_core.runs import TaskRun
from prefect_core.state_kinds import CANCELLED, COMPLETED, CRASHED, FAILED, PENDING, RUNNING, StateType
from prefect_core.states import Cancelled, Completed, Failed, State
from prefect_core.testing.drive import Driven, Fault, attempt, drive
from prefect_core.waiting import Signal
from tests.lifecycle.invariants import check_over, recorded

FAULTS: dict[str, Callable[[], BaseException]] = {
    "an error": lambda: RuntimeError("no more threads"),
    "ctrl-c": KeyboardInterrupt,
    "sigterm": lambda: TerminationSignal(15),
    "exit": lambda: SystemExit(3),
    "cancellation": asyncio.CancelledError,
}
ENDS: dict[str, Callable[[], Any]] = {
    "a value": lambda: 7,
    "nothing": lambda: None,
    "an exception": lambda: ValueError("x"),
    "a timeout": lambda: TimeoutError("y"),
    "ctrl-c": KeyboardInterrupt,
    "exit": lambda: SystemExit(3),
    "cancellation": asyncio.CancelledError,
    "made Failed": lambda: Failed(message="by hand"),
    "made Cancelled": lambda: Cancelled(),
    "made Skipped": lambda: Completed(name="Skipped"),
}
REFUSED, TIMED_OUT = "refused by the runner", "timed out by the runner"


@dataclass
class Upstream:
    """An input: how its run ends, whether it has before the call, and whether its failure is allowed."""

    kind: StateType
    name: str | None
    is_open: bool
    is_allowed: bool


@dataclass
class Scene:
    """A task call, told in plain data."""

    bodies: list[str]
    retries: int = 0
    delay: float = 0
    condition: str = "none"
    hooks: list[str] = field(default_factory=list)
    upstreams: list[Upstream] = field(default_factory=list)
    run_name: str = "plain"
    is_async: bool = False
    faults: list[tuple[int, str, bool]] = field(default_factory=list)


class Stage:
    """A scene being played."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.began = 0
        self.refused = 0
        self.hook_calls: list[tuple[str, str]] = []
        self.futures = [_future() for _ in scene.upstreams]
        for future, upstream in zip(self.futures, scene.upstreams, strict=True):
            if not upstream.is_open:
                _end(future, upstream)
        self.call = TaskCall(self._task(), (self._arguments(),), {}, None, None)

    def play(self) -> Driven[State]:
        faults = [Fault(step, FAULTS[name](), after) for step, name, after in self.scene.faults]
        return drive(task_life(self.call), faults, self._attempt, self._wait)

    def _task(self) -> Any:
        scene = self.scene

        def body(inputs: list[Any]) -> Any:
            end = ENDS[scene.bodies[min(self.began, len(scene.bodies)) - 1]]()
            if isinstance(end, BaseException):
                raise end
            return end

        async def async_body(inputs: list[Any]) -> Any:
            return body(inputs)

        def condition(task: Any, run: TaskRun, state: State) -> bool:
            if scene.condition == "raises":
                raise ZeroDivisionError
            return scene.condition == "yes"

        options: dict[str, Any] = {f"on_{kind}": self._hooks(kind) for kind in ("completion", "failure", "running")}
        if scene.condition != "none":
            options["retry_condition_fn"] = condition
        if scene.run_name != "plain":
            options["task_run_name"] = "{inputs}" if scene.run_name == "good" else "{nobody}"
        return task(
            async_body if scene.is_async else body,
            name="scene",
            retries=scene.retries,
            retry_delay_seconds=scene.delay,
            **options,
        )

    def _hooks(self, kind: str) -> list[Any]:
        def called(task: Any, run: TaskRun, state: State) -> None:
            self.hook_calls.append((kind, state.name))

        def failing(task: Any, run: TaskRun, state: State) -> None:
            called(task, run, state)
            raise ZeroDivisionError

        return [{"fine": called, "failing": failing}[name] for name in self.scene.hooks]

    def _arguments(self) -> list[Any]:
        pairs = zip(self.futures, self.scene.upstreams, strict=True)
        return [allow_failure(future) if upstream.is_allowed else future for future, upstream in pairs]

    def _attempt(self, payload: Payload) -> Receipt:
        """Answer for an attempt as a runner would: with the body's receipt, or without having begun the body."""
        number = self.began + self.refused
        kind = self.scene.bodies[min(number, len(self.scene.bodies) - 1)]
        if kind == REFUSED:
            self.refused += 1
            receipt = Receipt(error=TypeError("can't travel"))
            receipt.began = False
            return receipt
        self.began += 1
        if kind == TIMED_OUT:
            receipt = Receipt(error=TimeoutError("late"), timed_out=True)
            payload.started(receipt.started_us)
            payload.over = Signal()
            return receipt
        return attempt(payload)

    def _wait(self, step: Wait) -> bool:
        for future, upstream in zip(self.futures, self.scene.upstreams, strict=True):
            if future in step.signals:
                _end(future, upstream)
        return True


def _future() -> PrefectFuture[Any]:
    return PrefectFuture(TaskRun(State(PENDING), "upstream", "upstream", None, 0, frozenset()))


def _end(future: PrefectFuture[Any], upstream: Upstream) -> None:
    data = ValueError("upstream") if upstream.kind is FAILED else 1
    future.task_run.state = State(upstream.kind, upstream.name, data=data)
    future.finish()


upstreams = st.builds(
    Upstream,
    st.sampled_from([COMPLETED, COMPLETED, COMPLETED, FAILED, CRASHED, CANCELLED]),
    st.none(),
    st.booleans(),
    st.booleans(),
) | st.builds(Upstream, st.just(PENDING), st.just("NotReady"), st.booleans(), st.booleans())
scenes = st.builds(
    Scene,
    bodies=st.lists(st.sampled_from([*ENDS, REFUSED, TIMED_OUT]), min_size=1, max_size=5),
    retries=st.integers(0, 3),
    delay=st.sampled_from([0, 5.0]),
    condition=st.sampled_from(["none", "none", "yes", "no", "raises"]),
    hooks=st.lists(st.sampled_from(["fine", "failing"]), max_size=2),
    upstreams=st.lists(upstreams, max_size=3),
    run_name=st.sampled_from(["plain", "good", "bad"]),
    is_async=st.booleans(),
)
faults = st.tuples(st.integers(0, 12), st.sampled_from(sorted(FAULTS)), st.booleans())


def lets_start(scene: Scene) -> bool:
    return all(
        one.kind is COMPLETED or (one.is_allowed and (one.kind is FAILED or one.name == "NotReady"))
        for one in scene.upstreams
    )


@given(scenes)
def test_a_run_ends_as_its_bodies_and_inputs_say(scene: Scene) -> None:
    with recorded() as recorder:
        stage = Stage(scene)
        driven = stage.play()
        run = stage.call.run
        check_over(recorder, run)
        assert driven.error is None
        assert driven.value is run.state
        assert run.run_count == stage.began
        if not lets_start(scene):
            assert run.state.name == "NotReady"
            assert not stage.began + stage.refused
        elif scene.run_name == "bad":
            assert run.state.type is FAILED
            assert "nobody" in run.state.message
        else:
            assert 1 <= stage.began + stage.refused <= scene.retries + 1
            _check_retries(stage, driven)
        _check_hooks(stage)


def _check_retries(stage: Stage, driven: Driven[State]) -> None:
    scene, run = stage.scene, stage.call.run
    slept = [scene.delay] * (run.run_count - 1 + stage.refused) if scene.delay else []
    assert driven.slept() == slept[: len(driven.slept())]
    assert len(driven.slept()) in (len(slept), len(slept) - 1, 0)
    if run.state.type is FAILED and stage.began and not stage.refused and scene.condition in ("none", "yes"):
        assert stage.began == scene.retries + 1
    if scene.condition in ("no", "raises"):
        assert stage.began + stage.refused == 1


def _check_hooks(stage: Stage) -> None:
    ended = {COMPLETED: "completion", FAILED: "failure"}.get(stage.call.run.state.type)
    calls = [kind for kind, _ in stage.hook_calls]
    hooks = len(stage.scene.hooks)
    bodies = stage.began if lets_start(stage.scene) else 0
    assert calls.count("running") == hooks * bodies
    for kind in ("completion", "failure"):
        # A task that could not be named never had a lifecycle of its own.
        expected = hooks if kind == ended and stage.scene.run_name != "bad" else 0
        assert calls.count(kind) == expected


@given(scenes, st.lists(faults, min_size=1, max_size=3))
@example(Scene(["an exception"], retries=1, delay=5.0), [(1, "ctrl-c", False)])
@example(Scene(["a value"], upstreams=[Upstream(COMPLETED, None, True, False)]), [(0, "sigterm", False)])
def test_a_run_that_is_hit_at_any_step_ends_all_the_same(scene: Scene, hits: list[tuple[int, str, bool]]) -> None:
    scene.faults = hits
    with recorded() as recorder:
        stage = Stage(scene)
        driven = stage.play()
        run = stage.call.run
        check_over(recorder, run)
        assert run.run_count == stage.began
        # What hits a hook goes on to the caller, since the run has ended by then; all else is in the state.
        if driven.error is not None:
            assert run.state.is_final()
            assert driven.error in [
                fault for fault in (driven.error,) if type(driven.error) in {type(make()) for make in FAULTS.values()}
            ]


def play(scene: Scene) -> tuple[State, list[str], Stage]:
    with recorded() as recorder:
        stage = Stage(scene)
        stage.play()
        check_over(recorder, stage.call.run)
        return stage.call.run.state, [state.name for state in recorder.states_of(stage.call.run)], stage


def test_ctrl_c_during_a_retry_delay_crashes_the_run() -> None:
    state, names, _ = play(Scene(["an exception"], retries=1, delay=5.0, faults=[(1, "ctrl-c", False)]))
    assert names == ["Pending", "Running", "AwaitingRetry", "Crashed"]
    assert state.message == "Execution was aborted by an interrupt signal."
    assert isinstance(state.data, KeyboardInterrupt)


def test_sigterm_during_the_wait_for_an_input_crashes_the_run() -> None:
    state, names, stage = play(
        Scene(["a value"], upstreams=[Upstream(COMPLETED, None, True, False)], faults=[(0, "sigterm", False)])
    )
    assert names == ["Pending", "Crashed"]
    assert state.message == "Execution was aborted by a termination signal."
    assert stage.began == 0


def test_a_driver_that_fails_crashes_the_run_with_the_error() -> None:
    state, names, _ = play(Scene(["a value"], faults=[(0, "an error", False)]))
    assert names == ["Pending", "Crashed"]
    assert state.message == "Execution was interrupted by an unexpected exception: RuntimeError: no more threads"


def test_a_run_that_somebody_else_ended_keeps_that_end() -> None:
    with recorded() as recorder:
        stage = Stage(Scene(["an exception"], retries=1, delay=5.0))
        life = task_life(stage.call)
        step = next(life)
        assert isinstance(step, Call)
        life.send(stage._attempt(step.payload))
        stage.call.let_go("enough")
        assert drive(_rest(life)).value is None
        check_over(recorder, stage.call.run)
        assert stage.call.run.state.type is CRASHED
        assert stage.call.run.state.message == "enough"


def _rest(life: Any) -> Any:
    """Go on with a lifecycle that stands at a step."""
    try:
        step = life.send(None)
        while True:
            step = life.send((yield step))
    except StopIteration:
        return None


def test_a_lifecycle_that_is_thrown_away_touches_nothing() -> None:
    with recorded() as recorder:
        stage = Stage(Scene(["a value"]))
        life = task_life(stage.call)
        next(life)
        before = len(recorder.events)
        life.close()
        assert len(recorder.events) == before
        assert stage.call.run.state.type in (PENDING, RUNNING)
