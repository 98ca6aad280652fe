"""One call of a flow, from its arguments to the end of its run."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prefect_core import context, history, logs
from prefect_core.context import FlowRunContext, RunContext, TaskRunContext
from prefect_core.engine import cancels, portal, transitions
from prefect_core.engine.dispatcher import Dispatcher
from prefect_core.engine.gates import about_to_begin, flow_around
from prefect_core.engine.hooks import call_hooks_now
from prefect_core.engine.keeping import Keeping
from prefect_core.engine.kept_calls import default_scope, keeping_of_flow
from prefect_core.engine.ledger import Ledger, take_reopened
from prefect_core.engine.outside import outside
from prefect_core.engine.owing import at_end
from prefect_core.engine.paths import ledger_of
from prefect_core.engine.steps import Life
from prefect_core.engine.upstreams import of_call
from prefect_core.errors import NestingTooDeep
from prefect_core.futures import PrefectFuture
from prefect_core.names import new_name
from prefect_core.parameters import abridged, as_json
from prefect_core.results.rules import Scope, outermost
from prefect_core.runs import FlowRun, TaskRun
from prefect_core.settings import current as settings
from prefect_core.state_kinds import CANCELLED, CANCELLING, CRASHED, PENDING, RUNNING, SCHEDULED, StateType
from prefect_core.states import State
from prefect_core.transactions import enclosing

if TYPE_CHECKING:
    from prefect_core.flows import Flow
    from prefect_core.payload import Payload
    from prefect_core.waiting import Signal

CHILDREN_CANCELLED = "The flow run ended before this task run could start."
CHILDREN_STOPPED = "The flow run was cancelled and this run did not end within the grace period."
CHILDREN_LET_GO = "The flow run ended and this task run did not end within the grace period."


class FlowCall:
    """One call of a flow, from its arguments to the end of its run."""

    __slots__ = (
        "args",
        "cancel",
        "context",
        "dispatcher",
        "earlier_attempts",
        "flow",
        "host",
        "keeping",
        "kwargs",
        "loop",
        "over",
        "parent",
        "payload",
        "refusal",
        "run",
        "taker",
        "thread",
        "thread_slot",
        "tracking",
        "unheld",
        "upstreams",
        "withheld",
    )

    def __init__(
        self,
        flow: Flow[Any, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        wait_for: Any,
        parent: RunContext | None,
    ) -> None:
        if parent is not None and parent.run.state.type is CANCELLING:
            cancels.end_body_of(parent)
        parameters = flow.binder.bind(args, kwargs)
        if flow.binder.has_fields:
            args, kwargs = flow.binder.arguments(parameters, may_lack_values=flow.validates_parameters)
        _check_depth(flow, parent)
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
        self.payload: Payload | None = None  # of the attempt under way
        self.taker: Dispatcher | None = None  # that it was submitted to
        self.thread = 0  # that runs the body, until it has ended
        self.thread_slot: Callable[[], object] | None = None  # gives up the place of a submitted one on a thread
        self.over: Signal | None = None  # fires when a body has ended that may run on after its deadline
        self.upstreams = of_call(args, kwargs, parameters, wait_for, parent, flow.name)
        self.unheld: list[str] = []
        """Parameters that JSON can't hold."""
        self.keeping: Keeping | None = None
        if flow.result_rules is not None or (parent.scope if parent is not None else default_scope()) is not None:
            self.keeping = keeping_of_flow(self, parameters, wait_for)
        self.withheld: State | None = None  # what an undecided run of an earlier attempt shows
        self.tracking = self._track() if parent is not None else None
        self.run = self._open_run(parameters)
        self.earlier_attempts = self.run.attempt

    @property
    def tries(self) -> int:
        """How many attempts began since the call was made; a run that is known again had others before."""
        return self.run.attempt - self.earlier_attempts

    def _track(self) -> TaskRun:
        """Return the task run that stands for this run in its parent, that of an earlier attempt if the call is known again."""
        flow_context = self.parent.flow_context if isinstance(self.parent, TaskRunContext) else self.parent
        flow_run = flow_context.flow_run if flow_context is not None else None
        run = (self.keeping.adopt(flow_run) if self.keeping is not None else None) or self._new_tracking(flow_run)
        if isinstance(self.parent, TaskRunContext):
            run.parent_task_run = self.parent.task_run
        if self.upstreams is not None:
            run.inputs = self.upstreams.edges
        return run

    def _new_tracking(self, flow_run: FlowRun | None) -> TaskRun:
        parent = self.parent
        assert parent is not None
        index = parent.dispatcher.next_index(self.flow.name) if parent.dispatcher is not None else 0
        return TaskRun(State(PENDING), self.flow.name, self.flow.name, flow_run, index, context.current_tags())

    def _open_run(self, parameters: dict[str, Any]) -> FlowRun:
        """Return the run: a new one, that of an earlier attempt, or the one that is to be run again."""
        again = take_reopened() if self.parent is None else None
        earlier = again.run if again is not None else self._earlier_run()
        run = earlier or self._new_run(parameters)
        run.at_end = at_end(self.flow, earlier is None)
        self.context = FlowRunContext(self.flow, run, parameters, self.flow.logs_prints(self.parent), self.parent)
        self.context.ledger = ledger_of(self.parent) or (again.ledger if again is not None else Ledger())
        self.context.scope = self._scope()
        self.context.transaction = enclosing(self.parent)
        if earlier is None:
            self._record_new(run)
        elif self.keeping is not None and self.keeping.is_undecided:
            self.withheld = transitions.withhold(run)
        else:
            self._reopen(run)
        if self.keeping is not None:
            self.keeping.open(self.tracking, self.context)
        return run

    def _earlier_run(self) -> FlowRun | None:
        keeping, ledger = self.keeping, ledger_of(self.parent)
        if keeping is None or keeping.earlier is None or ledger is None:
            return None
        return ledger.child_of(keeping.earlier.run)

    def _scope(self) -> Scope | None:
        parent, flow = self.parent, self.flow
        around = (parent.scope if parent is not None else None) or outermost()
        scope = around.inside(flow.result_rules, remembers=flow.retries > 0)
        return scope if scope.says_something() else None

    def _new_run(self, parameters: dict[str, Any]) -> FlowRun:
        flow = self.flow
        run = FlowRun(State(PENDING), new_name(), flow.name, context.current_tags(), self.tracking)
        run.flow_version = flow.version
        run.entrypoint = flow.entrypoint
        # As given, until its inputs are there and checked. What is too large is refused then, and must not be recorded now.
        run.parameters = abridged(as_json(parameters))
        return run

    def _record_new(self, run: FlowRun) -> None:
        recorder = history.current()
        if self.tracking is not None:
            self.tracking.child_flow_run = run
            _relate(run.state, self.tracking.state, run, self.tracking)
            if not self.tracking.key:
                recorder.created(self.tracking)
        recorder.created(run)
        logs.flow_created(self.context)

    def is_known(self) -> Life[State | None]:
        """Return the state of an earlier execution that stands for this call, or None if the body has to run."""
        keeping = self.keeping
        if keeping is None:
            return None
        known = yield from keeping.reuse()
        withheld, self.withheld = self.withheld, None
        if known is None:
            if withheld is not None:
                transitions.reopen(self.run, State(PENDING, message="Runs again."), withheld)
            return None
        state = _like(known)
        return transitions.enter(self.run, state) if withheld is None else transitions.show(self.run, state, withheld)

    def leave(self, state: State) -> bool:
        """Let a call that is undecided end in `state` for this attempt of the run around it; False for any other call."""
        if self.keeping is None or not self.keeping.leave(_like(state)):
            return False
        if self.withheld is not None:
            transitions.show(self.run, state, self.withheld)
        else:
            transitions.enter(self.run, state)
        return True

    def record_unheld(self) -> Life[None]:
        """Record which parameters JSON can't hold, and store them if results of this flow are."""
        values = {name: self.context.parameters[name] for name in self.unheld}
        kept = None if self.keeping is None else (yield from self.keeping.store_aside(values))
        row = (self.run.key, json.dumps(self.unheld), kept.result if kept is not None else None)
        history.current().noted([*(kept.own_rows() if kept is not None else []), ("unheld", row)])

    def _reopen(self, run: FlowRun) -> None:
        """Let a run of an earlier attempt that did not end well have another one."""
        if run.state.type is not PENDING and run.state.type is not SCHEDULED:
            transitions.reopen(run, State(PENDING, message=f"Runs again: it had ended {run.state}."), run.state)

    def enter(self, state: State) -> State:
        """Move the run, and what stands for it in its parent, to `state`; returns the one that it has then, as `transitions.enter`."""
        state = transitions.enter(self.run, state)
        if self.tracking is not None:
            mirrored = _like(state)
            mirrored.timestamp_us = state.timestamp_us
            _relate(state, mirrored, self.run, self.tracking)
            transitions.enter(self.tracking, mirrored)
            if state.is_running():
                self.tracking.run_count = self.run.run_count
        return state

    def begin(self, started_us: int) -> None:
        """Enter Running, just before the body runs. Raises `Held` if the flow run around is paused."""
        self.run.run_count += 1
        state = State(RUNNING)
        state.timestamp_us = max(started_us, state.timestamp_us)
        try:
            with about_to_begin(flow_around(self.parent)):
                self.enter(state)
        except BaseException:
            self.run.run_count -= 1
            raise

    def close(self, state: State) -> bool:
        """Bring the run to `state` whatever its lifecycle is doing; False if it was over already."""
        try:
            if not self.leave(state):
                self.enter(state)
        except transitions.RunIsOver:
            return False
        return True

    def promise(self, home: Any) -> None:
        """Return None: no runner holds the values of flows."""

    def gathered_in(self) -> None:
        """Return None: flows are not handed over in chunks."""

    def handed_over_or(self, end: PrefectFuture[Any]) -> Signal:
        """Return its end: flows are not handed over."""
        return end

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

    def let_go(self, reason: str, kind: StateType = CRASHED) -> None:
        self.cancel_unstarted(CHILDREN_CANCELLED)
        if self.dispatcher is not None:
            self.dispatcher.let_go(reason, kind)
        if self.end(State(kind, None, reason)) and kind is CANCELLED:
            self.call_hooks_outside(self.run.state)

    def call_hooks_outside(self, state: State) -> None:
        """Call the hooks of a run whose own lifecycle did not end it, on this thread."""
        hooks = self.flow.hooks_for(state.type)
        if hooks:
            call_hooks_now(hooks, self.flow, state, self.around_hooks())

    def around_hooks(self) -> FlowRunContext:
        """Return the context of hooks: the run's own runner may have stopped, so what they submit runs where tasks outside of flows do."""
        around = copy.copy(self.context)
        around.dispatcher = outside()
        return around


def _like(state: State) -> State:
    """Return the state for the other one of a subflow run and the task run that stands for it."""
    like = State(state.type, state.name, state.message, state.data)
    like.kept = state.kept
    return like


def _relate(state: State, mirrored: State, run: FlowRun, tracking: TaskRun) -> None:
    """Let the states of a subflow run and of the task run that stands for it name each other's run."""
    state.state_details.parent_task_run_id = tracking.id
    mirrored.state_details.child_flow_run_id = run.id


def _check_depth(flow: Flow[Any, Any], parent: RunContext | None) -> None:
    if parent is not None and parent.depth >= settings().max_nesting:
        raise NestingTooDeep(
            f"Flow {flow.name!r} would run {parent.depth + 1} runs deep, and max_nesting is {settings().max_nesting}. "
            "Look for a flow or task that calls itself without an end, or raise that setting."
        )


def make_room_for_frames(parent: RunContext | None) -> None:
    """Raise Python's recursion limit for deep nesting: one level of ours is a handful of frames of its."""
    if parent is not None and parent.depth % 20 == 0:
        sys.setrecursionlimit(max(sys.getrecursionlimit(), 1_000 + 20 * (parent.depth + 20)))
