"""One call of a flow, from its arguments to the end of its run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prefect_core import context, history, logs
from prefect_core.context import FlowRunContext, RunContext, TaskRunContext
from prefect_core.engine import portal, transitions
from prefect_core.engine.dispatcher import Dispatcher
from prefect_core.engine.upstreams import of_call
from prefect_core.errors import NestingTooDeep
from prefect_core.futures import PrefectFuture
from prefect_core.names import new_name
from prefect_core.parameters import abridged, as_json
from prefect_core.runs import FlowRun, TaskRun
from prefect_core.settings import current as settings
from prefect_core.state_kinds import CRASHED, PENDING, RUNNING, SCHEDULED
from prefect_core.states import State

if TYPE_CHECKING:
    from prefect_core.flows import Flow

CHILDREN_CANCELLED = "The flow run ended before this task run could start."
CHILDREN_LET_GO = "The flow run ended and this task run did not end within the grace period."


class FlowCall:
    """One call of a flow, from its arguments to the end of its run."""

    __slots__ = (
        "args",
        "cancel",
        "context",
        "dispatcher",
        "flow",
        "host",
        "kwargs",
        "loop",
        "parent",
        "refusal",
        "run",
        "tracking",
        "upstreams",
    )

    def __init__(
        self,
        flow: Flow[Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait_for: Any,
        parent: RunContext | None,
    ) -> None:
        parameters = flow.binder.bind(args, kwargs)
        if flow.binder.has_fields:
            args, kwargs = flow.binder.arguments(parameters, may_lack_values=flow.validates_parameters)
        if parent is not None and parent.depth >= settings().max_nesting:
            raise NestingTooDeep(
                f"Flow {flow.name!r} would run {parent.depth + 1} runs deep, and max_nesting is {settings().max_nesting}. "
                "Look for a flow or task that calls itself without an end, or raise that setting."
            )
        make_room_for_frames(parent)
        self.flow = flow
        self.args = args
        self.kwargs = kwargs
        self.parent = parent
        self.host: portal.LoopHost | None = None
        self.dispatcher: Dispatcher | None = None
        self.refusal: str | None = None  # why nothing starts in it any more
        self.loop: object | None = None  # that a submitted async flow runs on
        self.cancel: Callable[[], object] | None = None  # of a submitted one that runs on a loop
        self.upstreams = of_call(args, kwargs, parameters, wait_for, parent, flow.name)
        self.tracking = self._track() if parent is not None else None
        self.run = self._open_run(parameters)

    def _track(self) -> TaskRun:
        """Make the task run that stands for this run in its parent."""
        parent = self.parent
        assert parent is not None
        index = parent.dispatcher.next_index(self.flow.name) if parent.dispatcher is not None else 0
        flow_context = parent.flow_context if isinstance(parent, TaskRunContext) else parent
        flow_run = flow_context.flow_run if flow_context is not None else None
        run = TaskRun(State(PENDING), self.flow.name, self.flow.name, flow_run, index, context.current_tags())
        if isinstance(parent, TaskRunContext):
            run.parent_task_run = parent.task_run
        if self.upstreams is not None:
            run.inputs = self.upstreams.edges
        return run

    def _open_run(self, parameters: dict[str, Any]) -> FlowRun:
        flow = self.flow
        run = FlowRun(State(PENDING), new_name(), flow.name, context.current_tags(), self.tracking)
        run.flow_version = flow.version
        run.entrypoint = flow.entrypoint
        # As given, until its inputs are there and checked. What is too large is refused then, and must not be recorded now.
        run.parameters = abridged(as_json(parameters))
        self.context = FlowRunContext(flow, run, parameters, flow.logs_prints(self.parent), self.parent)
        recorder = history.current()
        if self.tracking is not None:
            self.tracking.child_flow_run = run
            _relate(run.state, self.tracking.state, run, self.tracking)
            recorder.created(self.tracking)
        recorder.created(run)
        logs.flow_created(self.context)
        return run

    def enter(self, state: State) -> State:
        """Move the run, and what stands for it in its parent, to `state`."""
        transitions.enter(self.run, state)
        if self.tracking is not None:
            mirrored = State(state.type, state.name, state.message, state.data)
            mirrored.timestamp_us = state.timestamp_us
            _relate(state, mirrored, self.run, self.tracking)
            transitions.enter(self.tracking, mirrored)
            if state.is_running():
                self.tracking.run_count = self.run.run_count
        return state

    def begin(self, started_us: int) -> None:
        """Enter Running, just before the body runs."""
        self.run.run_count += 1
        state = State(RUNNING)
        state.timestamp_us = max(started_us, state.timestamp_us)
        try:
            self.enter(state)
        except transitions.RunIsOver:
            self.run.run_count -= 1
            raise

    def close(self, state: State) -> bool:
        """Bring the run to `state` whatever its lifecycle is doing; False if it was over already."""
        try:
            self.enter(state)
        except transitions.RunIsOver:
            return False
        return True

    def still_open(self) -> list[PrefectFuture[Any]]:
        """Return the inputs that are still under way."""
        upstreams = self.upstreams  # another thread may resolve them meanwhile
        return upstreams.still_open() if upstreams is not None else []

    def loop_needed(self) -> object | None:
        """Return the event loop that this call can't go on without."""
        return self.loop

    def resolve(self) -> None:
        """Put the values of finished inputs in their places. Raises `UpstreamTaskError` for the first that may not go on."""
        if self.upstreams is not None:
            self.args, self.kwargs = self.upstreams.resolve()
            self.upstreams = None

    # What a dispatcher asks of a flow inside.

    def end(self, state: State) -> bool:
        has_ended = self.close(state)
        if has_ended:
            logs.flow_finished(self.context, state)
        return has_ended

    def has_begun(self) -> bool:
        # Scheduled: between two attempts.
        return self.run.state.type not in (PENDING, SCHEDULED)

    def cancel_unstarted(self, reason: str) -> None:
        # In this order, and the other way round where an attempt gets its dispatcher.
        self.refusal = reason
        if self.dispatcher is not None:
            self.dispatcher.cancel_unstarted(reason)

    def hurry(self) -> None:
        self.cancel_unstarted(CHILDREN_CANCELLED)
        if self.dispatcher is not None:
            self.dispatcher.hurry()
        if self.cancel is not None:
            self.cancel()

    def let_go(self, reason: str) -> None:
        self.cancel_unstarted(CHILDREN_CANCELLED)
        if self.dispatcher is not None:
            self.dispatcher.let_go(reason)
        self.end(State(CRASHED, None, reason))


def _relate(state: State, mirrored: State, run: FlowRun, tracking: TaskRun) -> None:
    """Let the states of a subflow run and of the task run that stands for it name each other's run."""
    state.state_details.parent_task_run_id = tracking.id
    mirrored.state_details.child_flow_run_id = run.id


def make_room_for_frames(parent: RunContext | None) -> None:
    """Raise Python's recursion limit for deep nesting: one level of ours is a handful of frames of its."""
    if parent is not None and parent.depth % 20 == 0:
        sys.setrecursionlimit(max(sys.getrecursionlimit(), 1_000 + 20 * (parent.depth + 20)))
