"""The lifecycle of a flow run: the only place where a flow run changes its state.

    Pending ─► (inputs, checks, name) ─► Running ─► body ─► children ─► final
                       │                    ▲                             │ a failed attempt with retries left
                       └─► Failed           └───── AwaitingRetry ◄────────┘

Each attempt has a dispatcher and a runner of its own, started before the body and stopped after the last child has ended. The start and
the end of a flow run are durable in the history before hooks and callers see them. A run inside another is mirrored by a task run in its
parent (`tracking`), state for state.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from prefect_core import clock, context, history, inputs, logs
from prefect_core.context import FlowRunContext, RunContext, TaskRunContext
from prefect_core.engine import portal, signals, transitions
from prefect_core.engine.dispatcher import Dispatcher
from prefect_core.engine.hooks import call_hooks
from prefect_core.engine.steps import Block, Call, Life, Sleep, Wait
from prefect_core.engine.task_run import check_ancestors
from prefect_core.errors import HistoryError, NestingTooDeep, UpstreamTaskError, describe
from prefect_core.final_states import aggregate_counts
from prefect_core.futures import PrefectFuture
from prefect_core.names import new_name
from prefect_core.parameters import as_json, check_size
from prefect_core.payload import Payload, Receipt
from prefect_core.runs import FlowRun, TaskRun
from prefect_core.settings import current as settings
from prefect_core.state_kinds import COMPLETED, CRASHED, FAILED, PENDING, RUNNING
from prefect_core.states import AwaitingRetry, State
from prefect_core.task_runners import RunnerSpec, resolve_runner

if TYPE_CHECKING:
    from prefect_core.flows import Flow

CHILDREN_CANCELLED = "The flow run ended before this task run could start."
CHILDREN_LET_GO = "The flow run ended and this task run did not end within the grace period."

runner_overrides: dict[str, RunnerSpec] = {}
"""Runners that replace what flows say, by flow name; "" is the root flow's. Set by the command line."""


class FlowCall:
    """One call of a flow, from its arguments to the end of its run."""

    __slots__ = ("args", "context", "dispatcher", "flow", "host", "kwargs", "parent", "run", "tracking", "upstreams")

    def __init__(
        self, flow: Flow[Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any], wait_for: Any, parent: RunContext | None
    ) -> None:
        parameters = flow.binder.bind(args, kwargs)
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
        self.upstreams: Sequence[tuple[Any, bool]] = ()
        self.tracking = self._track(wait_for, parameters) if parent is not None else None
        self.run = self._open_run(parameters)

    def _track(self, wait_for: Any, parameters: dict[str, Any]) -> TaskRun:
        """Make the task run that stands for this run in its parent."""
        parent = self.parent
        assert parent is not None
        index = parent.dispatcher.next_index(self.flow.name) if parent.dispatcher is not None else 0
        flow_context = parent.flow_context if isinstance(parent, TaskRunContext) else parent
        flow_run = flow_context.flow_run if flow_context is not None else None
        run = TaskRun(State(PENDING), self.flow.name, self.flow.name, flow_run, index, context.current_tags())
        if isinstance(parent, TaskRunContext):
            run.parent_task_run = parent.task_run
        found = [*inputs.find((self.args, self.kwargs)), *inputs.find(wait_for)]
        check_ancestors(found, parent, self.flow.name)
        self.upstreams = found
        edges = {name: inputs.find(value) for name, value in (parameters | {"wait_for": wait_for}).items()}
        run.inputs = tuple(
            (name, "task_run", one.task_run.uid if isinstance(one, PrefectFuture) else one.task_uid)
            for name, ones in edges.items()
            for one, _ in ones
        )
        return run

    def _open_run(self, parameters: dict[str, Any]) -> FlowRun:
        flow = self.flow
        run = FlowRun(State(PENDING), new_name(), flow.name, context.current_tags(), self.tracking)
        run.flow_version = flow.version
        run.entrypoint = flow.entrypoint
        run.parameters = as_json(parameters)
        self.context = FlowRunContext(flow, run, parameters, flow.logs_prints(self.parent), self.parent)
        recorder = history.current()
        if self.tracking is not None:
            self.tracking.child_flow_run = run
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
            transitions.enter(self.tracking, mirrored)
            if state.is_running():
                self.tracking.run_count = self.run.run_count
        return state

    def begin(self, started_us: int) -> None:
        """Enter Running, just before the body runs."""
        self.run.run_count += 1
        state = State(RUNNING)
        state.timestamp_us = max(started_us, state.timestamp_us)
        self.enter(state)

    # What a dispatcher asks of a submitted flow.

    def end(self, state: State) -> bool:
        try:
            self.enter(state)
        except transitions.RunIsOver:
            return False
        return True

    def has_begun(self) -> bool:
        return self.run.state.type is not PENDING

    def let_go(self, reason: str) -> None:
        if self.dispatcher is not None:
            self.dispatcher.cancel_unstarted(CHILDREN_CANCELLED)
            self.dispatcher.let_go(reason)
        self.end(State(CRASHED, None, reason))

    def needs_loop(self, loop: object) -> bool:
        return self.flow.is_async and self.host is not None and self.host.loop is loop


def make_room_for_frames(parent: RunContext | None) -> None:
    """Raise Python's recursion limit for deep nesting: one level of ours is a handful of frames of its."""
    if parent is not None and parent.depth % 20 == 0:
        sys.setrecursionlimit(max(sys.getrecursionlimit(), 1_000 + 20 * (parent.depth + 20)))


def flow_life(call: FlowCall) -> Life[State]:
    """Take a flow run from Pending to its end; returns its last state."""
    try:
        state = yield from _prepare(call)
        if state is None:
            yield Block(history.current().flush)
            state = yield from _attempts(call)
    except transitions.RunIsOver:
        return call.run.state
    except GeneratorExit:
        raise
    except BaseException as error:
        state = _crash(call, error)
    if not state.is_final():
        return state
    # A crash may mean that the process is on its way out: recorded at once, on this thread.
    yield from _acknowledge()
    logs.flow_finished(call.context, state)
    hooks = call.flow.hooks_for(state.type)
    if hooks:
        yield from call_hooks(hooks, call.flow, state, call.context)
    return state


def _crash(call: FlowCall, error: BaseException) -> State:
    """End a run that was interrupted outside of its body: while it waited for an input, a delay, the history, or its children."""
    reason = transitions.crash_message(signals.cause_of(error))
    if call.dispatcher is not None:
        call.dispatcher.cancel_unstarted(CHILDREN_CANCELLED)
        call.dispatcher.let_go(reason)
        call.dispatcher.stop()
    call.end(State(CRASHED, None, reason, data=error))
    return call.run.state


def _acknowledge() -> Life[None]:
    """Make the end durable; a history that can't be written is a warning here, since the work is done."""
    try:
        yield Block(history.current().flush)
    except HistoryError as error:
        logs.engine_line(None, logs.WARNING, f"The end of a flow run could not be recorded: {error}")


def _prepare(call: FlowCall) -> Life[State | None]:
    """Resolve inputs, check parameters and find the name; returns a state if the run can't start."""
    run, flow = call.run, call.flow
    still_open = [one for one, _ in call.upstreams if isinstance(one, PrefectFuture) and not one.done()]
    if still_open:
        yield Wait(still_open)
    try:
        for upstream, allowed in call.upstreams:
            inputs.value_of(upstream, allowed)
    except UpstreamTaskError as error:
        state = call.enter(State(PENDING, "NotReady", str(error)))
        logs.flow_finished(call.context, state)
        return state
    try:
        _take_parameters(call)
    except Exception as error:
        message = f"Validation of flow parameters failed with error: {describe(error)}"
        return call.enter(State(FAILED, None, message, data=error))
    try:
        if flow.flow_run_name is not None:
            run.name = flow.run_name_for(call.context)
        history.current().renamed(run)
    except Exception as error:
        return call.enter(State(FAILED, None, f"Flow run encountered an exception: {describe(error)}", data=error))
    return None


def _take_parameters(call: FlowCall) -> None:
    flow = call.flow
    if call.upstreams or not inputs.are_plain(call.args, call.kwargs):
        call.args, call.kwargs = inputs.replace((call.args, call.kwargs), inputs.value_of)
    parameters = flow.binder.bind(call.args, call.kwargs)
    if flow.validates_parameters:
        parameters = flow.validator.validate(parameters)
        call.args, call.kwargs = flow.binder.unbind(parameters)
    call.run.parameters = as_json(parameters)
    check_size(call.run.parameters)
    call.context.parameters = parameters


def _attempts(call: FlowCall) -> Life[State]:
    """Run the body until it succeeds or has no retries left; enters and returns the last state."""
    run, flow = call.run, call.flow
    while True:
        run.attempt += 1
        state = yield from _attempt(call)
        if state.type is not FAILED or run.attempt > flow.retries:
            return call.enter(state)
        delay = flow.retry_delay_seconds
        when = f"will start {delay:g} second(s) from now" if delay else "will start immediately"
        logs.engine_line(
            run, logs.INFO, f"Flow run failed: {state.message} - Retry {run.run_count}/{flow.retries} {when}"
        )
        due = clock.to_datetime(clock.now_us()) + timedelta(seconds=delay)
        call.enter(AwaitingRetry(scheduled_time=due, message=state.message))
        if delay:
            yield Sleep(delay)


def _attempt(call: FlowCall) -> Life[State]:
    """Run the body once, on a runner of its own, and wait for all that it submitted."""
    flow, around = call.flow, call.context
    dispatcher = call.dispatcher = around.dispatcher = Dispatcher(_runner_of(call), call.host)
    call.run.runner_name = dispatcher.runner.name
    logs.flow_started(around)
    payload = Payload(flow.fn, call.args, call.kwargs, around, flow.is_async)
    payload.timeout_seconds = flow.timeout_seconds
    payload.started = partial(_begin, call)
    try:
        yield Block(dispatcher.start)
        receipt: Receipt = yield Call(payload)
    except GeneratorExit:
        raise
    except BaseException as error:
        receipt = Receipt(error=error)
    receipt = yield from _wind_up(dispatcher, receipt)
    receipt = yield from _stop(dispatcher, receipt)
    if payload.over is not None and not payload.over.done() and call.run.run_count <= flow.retries:
        # The body that timed out may still run; two bodies of one run never run at once.
        yield Wait([payload.over])
    return _state_after(call, receipt, dispatcher)


def _begin(call: FlowCall, started_us: int) -> None:
    call.begin(started_us)
    hooks = call.flow.on_running_hooks
    if hooks:
        for step in call_hooks(hooks, call.flow, call.run.state, call.context):
            assert isinstance(step, Block)
            if step.is_async:
                portal.run(step.work)
            else:
                step.work()


def _runner_of(call: FlowCall) -> Any:
    """Choose the runner: the command line's, then the setting's for a root flow, then the flow's own."""
    spec = runner_overrides.get("" if call.parent is None else call.flow.name)
    if call.parent is None:
        spec = spec or settings().task_runner or None
    return resolve_runner(spec or call.flow.task_runner).duplicate()


def _wind_up(dispatcher: Dispatcher, receipt: Receipt) -> Life[Receipt]:
    """See all children to their end. Returns the body's receipt, or that of an interrupt that came meanwhile."""
    if receipt.error is None:
        try:
            yield Wait([dispatcher.idle()])
            return receipt
        except GeneratorExit:
            raise
        except BaseException as error:
            receipt = Receipt(error=error)
            receipt.ended_us = clock.now_us()
    is_failure = isinstance(receipt.error, Exception)
    grace = settings().cancel_grace_seconds if is_failure else settings().interrupt_grace_seconds
    dispatcher.cancel_unstarted(CHILDREN_CANCELLED)
    try:
        yield Wait([dispatcher.idle()], grace, shield=True)
    except GeneratorExit:
        raise
    except BaseException as error:
        # A second Ctrl-C: no more grace.
        if is_failure:
            receipt = Receipt(error=error)
    assert receipt.error is not None
    reason = CHILDREN_LET_GO if isinstance(receipt.error, Exception) else transitions.crash_message(signals.cause_of(receipt.error))
    dispatcher.let_go(reason)
    return receipt


def _stop(dispatcher: Dispatcher, receipt: Receipt) -> Life[Receipt]:
    """Stop the runners. Returns the body's receipt, or that of an interrupt that came meanwhile."""
    try:
        yield Block(dispatcher.stop)
    except GeneratorExit:
        raise
    except BaseException as error:
        if receipt.error is None or isinstance(receipt.error, Exception):
            return Receipt(error=error)
    return receipt


def _state_after(call: FlowCall, receipt: Receipt, dispatcher: Dispatcher) -> State:
    if receipt.error is not None:
        if not isinstance(receipt.error, Exception):
            message = transitions.crash_message(signals.cause_of(receipt.error))
            return State(CRASHED, None, message, data=receipt.error)
        logs.engine_line(call.run, logs.ERROR, "Encountered exception during execution:", exc_info=receipt.error)
        return transitions.failure("Flow run", ":", receipt, call.flow.timeout_seconds)
    value = receipt.value
    if value is None and call.flow.final_state_from == "children":
        return _state_of_children(dispatcher)
    return transitions.state_at_end(inputs.replace(value, _as_state, unwrap=False))


def _as_state(upstream: PrefectFuture[Any] | State, _allowed: bool) -> State:
    return upstream if isinstance(upstream, State) else upstream.state


def _state_of_children(dispatcher: Dispatcher) -> State:
    """Return the final state of a flow that returned None: that of all its task runs and subflow runs together."""
    tally = dispatcher.tally
    if not tally.counts:
        return State(COMPLETED)
    state = aggregate_counts(tally.counts)
    if tally.earliest_failure is not None:
        state.data = tally.earliest_failure.state
    return state
