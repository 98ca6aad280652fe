"""The lifecycle of a flow run: the only place where a flow run changes its state.

    Pending ─► (inputs, checks, name) ─► Running ─► body ─► children ─► final
                       │                    ▲                             │ a failed attempt with retries left
                       └─► Failed           └───── AwaitingRetry ◄────────┘

Each attempt has a dispatcher and a runner of its own, started before the body and stopped after the last child has ended. The start and
the end of a flow run are durable in the history before hooks and callers see them. A run inside another is mirrored by a task run in its
parent (`tracking`), state for state.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from prefect_core import clock, history, inputs, logs
from prefect_core.crash_points import crash_points_around
from prefect_core.engine import late_bodies, transitions
from prefect_core.engine.asked import hear
from prefect_core.engine.cancelled_states import state_instead
from prefect_core.engine.cancels import moment_for
from prefect_core.engine.dispatcher import Dispatcher
from prefect_core.engine.flow_call import CHILDREN_CANCELLED, CHILDREN_LET_GO, CHILDREN_STOPPED, FlowCall
from prefect_core.engine.hooks import call_hooks, call_hooks_now
from prefect_core.engine.owing import are_claimed
from prefect_core.engine.paths import identify_before_body
from prefect_core.engine.pausing import Pausing
from prefect_core.engine.remaking import fetched
from prefect_core.engine.steps import Block, Call, Life, Sleep, Wait
from prefect_core.engine.suspending import at_end, pass_gate, state_at_gate, wind_up_suspended
from prefect_core.errors import HistoryError, Pause, UpstreamTaskError, describe
from prefect_core.final_states import aggregate_counts
from prefect_core.futures import PrefectFuture
from prefect_core.parameters import as_json, check_size, unheld
from prefect_core.payload import Payload, Receipt
from prefect_core.references import Reference
from prefect_core.settings import current as settings
from prefect_core.state_kinds import CANCELLED, CANCELLING, COMPLETED, CRASHED, FAILED, PAUSED, PENDING
from prefect_core.states import AwaitingRetry, State
from prefect_core.task_runners import RunnerSpec, resolve_runner

if TYPE_CHECKING:
    from prefect_core.flows import Flow

runner_overrides: dict[str, RunnerSpec] = {}
"""Runners that replace what flows say, by flow name; "" is the root flow's. Set by the command line."""


def flow_life(call: FlowCall) -> Life[State]:
    """Take a flow run from Pending to its end; returns its last state."""
    try:
        state = yield from _heard(call)
    except transitions.RunIsOver:
        if call.run.state.type is not CANCELLING or not call.close(transitions.cancelled(call.run)):
            return call.run.state
        state = call.run.state
    except GeneratorExit:
        raise
    except BaseException as error:
        state = _crash(call, error)
    if not state.is_final() or (call.keeping is not None and call.keeping.was_taken):
        return state
    # A crash may mean that the process is on its way out: recorded at once, on this thread.
    is_durable = yield from _acknowledge()
    logs.flow_finished(call.context, state)
    hooks = call.flow.hooks_for(state.type)
    if hooks and (yield from are_claimed(call.run, state, is_durable)):
        yield from call_hooks(hooks, call.flow, state, call.around_hooks())
    return state


def _crash(call: FlowCall, error: BaseException) -> State:
    """End a run that was interrupted outside of its body: while it waited for an input, a delay, the history, or its children."""
    state = state_instead(call.context, error) or State(CRASHED, None, transitions.crash_message(error), data=error)
    if call.dispatcher is not None:
        call.dispatcher.cancel_unstarted(CHILDREN_CANCELLED)
        call.dispatcher.let_go(state.message or "", state.type)
        call.dispatcher.stop()
    if not call.close(state) and call.run.state.type is COMPLETED:
        # Its value was being made durable; the run is over, but what struck it here is meant for whoever called it.
        raise error
    return call.run.state


@crash_points_around("engine.flush")
def _flush() -> None:
    history.current().flush()


def _acknowledge() -> Life[bool]:
    """Make the end durable, and tell whether it is; a history that can't be written is a warning here, since the work is done."""
    try:
        yield Block(_flush)
    except HistoryError as error:
        logs.engine_line(None, logs.WARNING, f"The end of a flow run could not be recorded: {error}")
        return False
    return True


def _prepare(call: FlowCall) -> Life[State | None]:
    """Resolve inputs, check parameters and find the name; returns a state if the run can't start."""
    run, flow = call.run, call.flow
    still_open = call.still_open()
    if still_open:
        yield Wait(still_open)
    yield from fetched(call.upstreams.afar(None) if call.upstreams is not None else [])
    try:
        call.resolve()
    except UpstreamTaskError as error:
        state = State(PENDING, "NotReady", str(error))
        if not call.leave(state):
            call.enter(state)
        logs.flow_finished(call.context, state)
        return state
    known = yield from call.is_known()
    if known is not None:
        return known
    try:
        _take_parameters(call)
    except Exception as error:
        message = f"Validation of flow parameters failed with error: {describe(error)}"
        return call.enter(State(FAILED, None, message, data=error))
    failure: State | None = None
    try:
        if flow.flow_run_name is not None:
            before = run.name
            run.name = flow.run_name_for(call.context)
            logs.flow_renamed(call.context, before)
    except Exception as error:
        failure = State(FAILED, None, f"Flow run encountered an exception: {describe(error)}", data=error)
    history.current().renamed(run)
    if call.unheld:
        yield from call.record_unheld()
    return call.enter(failure) if failure is not None else None


def _take_parameters(call: FlowCall) -> None:
    flow = call.flow
    parameters = flow.binder.bind(call.args, call.kwargs)
    if flow.validates_parameters:
        parameters = flow.validator.validate(parameters)
        call.args, call.kwargs = flow.binder.unbind(parameters)
    encoded = as_json(parameters)
    check_size(encoded)
    call.run.parameters = encoded
    call.context.parameters = parameters
    if call.parent is None:
        # Only such a run can be run again by itself.
        call.unheld = unheld(parameters, encoded, partial(_restored, flow))


def _restored(flow: Flow[Any, Any], encoded: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as a call gets them that another process makes with what JSON holds of them."""
    parameters = flow.binder.bind(*flow.binder.unbind(encoded))
    return flow.validator.validate(parameters) if flow.validates_parameters else parameters


def _heard(call: FlowCall) -> Life[State]:
    """Get ready and do all attempts, and hear meanwhile what others ask of the run."""
    pausing = call.context.pausing = Pausing(call)
    end_hearing = hear(call)
    taker = call.parent.dispatcher if call.parent is not None else None
    if taker is not None:
        # The run around it ends it when it ends itself.
        taker.enter(call)
    try:
        state = yield from _prepare(call)
        if state is not None:
            return state
        if call.parent is not None:
            identify_before_body(call.context)
        yield Block(_flush)
        state = yield from _attempts(call)
        if state.type is PAUSED:
            yield Block(partial(pausing.left, state))
        return state
    finally:
        call.context.pausing = None
        pausing.abandon()
        if taker is not None:
            taker.leave(call)
        end_hearing()


def _attempts(call: FlowCall) -> Life[State]:
    """Run the body until it succeeds or has no retries left; enters and returns the last state."""
    run, flow = call.run, call.flow
    while True:
        refused = yield from pass_gate(call)
        if refused is not None:
            return call.enter(refused)
        run.attempt += 1
        state = yield from _attempt(call)
        if state.type is PENDING:
            run.attempt -= 1
            continue
        if state is run.state:
            # It was suspended, which is recorded.
            return state
        if state.type is COMPLETED and call.keeping is not None:
            state = yield from call.keeping.keep(state)
        if state.type is not FAILED or call.tries > flow.retries or call.refusal is not None:
            state = call.enter(state)
            if call.keeping is not None:
                yield from call.keeping.settled(state, call.over)
            return state
        delay = flow.retry_delay_seconds
        when = f"will start {delay:g} second(s) from now" if delay else "will start immediately"
        logs.note(
            call.context, logs.INFO, f"Flow run failed: {state.message} - Retry {call.tries}/{flow.retries} {when}"
        )
        due = clock.to_datetime(clock.now_us()) + timedelta(seconds=delay)
        call.enter(AwaitingRetry(scheduled_time=due, message=state.message))
        if delay:
            yield Sleep(delay, call.payload)
            if run.state.is_final() or run.state.type is CANCELLING:
                raise transitions.RunIsOver


def _attempt(call: FlowCall) -> Life[State]:
    """Run the body once, on a runner of its own, and wait for all that it submitted."""
    flow, around = call.flow, call.context
    dispatcher = call.dispatcher = around.dispatcher = Dispatcher(_runner_of(call), call.host, call.parent)
    if call.parent is not None and call.parent.dispatcher is not None:
        # In a worker nothing inside can be stored, however deep.
        dispatcher.keeps_results = call.parent.dispatcher.keeps_results
    dispatcher.first_index = partial(around.ledger.first_index, call.run.key)
    if call.refusal is not None:
        dispatcher.cancel_unstarted(call.refusal)
    call.run.runner_name = dispatcher.runner.name
    logs.flow_started(around)
    payload = Payload(flow.fn, call.args, call.kwargs, around, flow.is_async)
    payload.timeout_seconds = flow.timeout_seconds
    payload.started = partial(_begin, call)
    call.payload = payload
    try:
        yield Block(dispatcher.start)
        receipt: Receipt = yield Call(payload)
    except GeneratorExit:
        raise
    except BaseException as error:
        receipt = Receipt(error=error)
    if around.gate is not None:
        receipt = yield from at_end(call, receipt)
    if receipt.timed_out:
        dispatcher.refuse_late_body()
    else:
        call.thread = 0
    receipt = yield from _wind_up(call, dispatcher, receipt)
    receipt = yield from _bring_home(receipt)
    receipt = yield from _stop(dispatcher, receipt)
    call.over = payload.over
    late_bodies.report(around)
    if payload.over is not None and not payload.over.done() and call.tries <= flow.retries:
        # The body that timed out may still run; two bodies of one run never run at once.
        yield Wait([payload.over])
    return _state_after(call, receipt, dispatcher)


def _begin(call: FlowCall, started_us: int) -> None:
    call.thread = threading.get_ident()
    call.begin(started_us)
    if call.flow.on_running_hooks:
        call_hooks_now(call.flow.on_running_hooks, call.flow, call.run.state, call.context)


def _runner_of(call: FlowCall) -> Any:
    """Choose the runner: the command line's, then the setting's for a root flow, then the flow's own."""
    spec = runner_overrides.get("" if call.parent is None else call.flow.name)
    if call.parent is None:
        spec = spec or settings().task_runner or None
    return resolve_runner(spec or call.flow.task_runner).duplicate()


def _wind_up(call: FlowCall, dispatcher: Dispatcher, receipt: Receipt) -> Life[Receipt]:
    """See all children to their end. Returns the body's receipt, or that of an interrupt that came meanwhile."""
    if isinstance(receipt.error, Pause):
        return (yield from wind_up_suspended(dispatcher, receipt))
    if receipt.error is None:
        try:
            if dispatcher.has_streams:
                yield Block(dispatcher.drain_streams)
            yield Wait([dispatcher.idle()])
            return receipt
        except GeneratorExit:
            raise
        except BaseException as error:
            receipt = Receipt(error=error)
            receipt.ended_us = clock.now_us()
    cancel_by = moment_for(call.context)
    is_failure = isinstance(receipt.error, Exception) and cancel_by is None
    grace = settings().cancel_grace_seconds if is_failure else settings().interrupt_grace_seconds
    if cancel_by is not None:
        grace = max(0.0, cancel_by - time.monotonic())
    dispatcher.cancel_unstarted(CHILDREN_CANCELLED)
    if not is_failure:
        dispatcher.hurry()
    try:
        yield Wait([dispatcher.idle()], grace, shield=True)
    except GeneratorExit:
        raise
    except BaseException as error:
        # A second Ctrl-C: no more grace.
        if is_failure:
            receipt = Receipt(error=error)
    assert receipt.error is not None
    if moment_for(call.context) is not None:
        dispatcher.let_go(CHILDREN_STOPPED, CANCELLED)
    else:
        reason = CHILDREN_LET_GO if isinstance(receipt.error, Exception) else transitions.crash_message(receipt.error)
        dispatcher.let_go(reason)
    return receipt


def _bring_home(receipt: Receipt) -> Life[Receipt]:
    """Fetch what the body returned of values that runners hold, before these stop. Returns the receipt, or that of what went wrong."""
    if receipt.error is not None or inputs.are_plain((receipt.value,), {}):
        return receipt
    states = [one if isinstance(one, State) else one.state for one, _ in inputs.find(receipt.value)]
    try:
        # What is stored is found when somebody asks for it.
        data = [state.data for state in states]
        yield from fetched([one for one in data if isinstance(one, Reference) and one.url is None])
    except GeneratorExit:
        raise
    except BaseException as error:
        return Receipt(error=error)
    return receipt


def _stop(dispatcher: Dispatcher, receipt: Receipt) -> Life[Receipt]:
    """Stop the runners. Returns the body's receipt, or that of an interrupt that came meanwhile."""
    try:
        yield Block(dispatcher.stop)
    except GeneratorExit:
        raise
    except BaseException as error:
        dispatcher.stop()
        if receipt.error is None or isinstance(receipt.error, Exception):
            return Receipt(error=error)
    return receipt


def _state_after(call: FlowCall, receipt: Receipt, dispatcher: Dispatcher) -> State:
    state = _state_of(call, receipt, dispatcher)
    if dispatcher.gone is not None and state.type is FAILED:
        return State(CRASHED, None, dispatcher.gone, data=state.data)
    return state


def _state_of(call: FlowCall, receipt: Receipt, dispatcher: Dispatcher) -> State:
    cancelled = state_instead(call.context, receipt.error)
    if cancelled is not None:
        return cancelled
    if receipt.error is not None:
        suspended = state_at_gate(call, receipt.error)
        if suspended is not None:
            return suspended
        if not isinstance(receipt.error, Exception):
            message = transitions.crash_message(receipt.error)
            return State(CRASHED, None, message, data=receipt.error)
        logs.flow_failed(call.context, receipt.error)
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
