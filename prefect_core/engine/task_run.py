"""The lifecycle of a task run: the only place where a task run changes its state.

Pending ─► (inputs) ─► Running ─► final              an input failed: Pending/NotReady, and that is the end
                         ▲  └─► AwaitingRetry ─┐     a failed attempt with retries left
                         └──────── (delay) ◄───┘
"""

from __future__ import annotations

from datetime import timedelta

from prefect_core import clock, context, history, logs
from prefect_core.context import FlowRunContext
from prefect_core.engine import cancels, deadlines, portal, slots, transitions
from prefect_core.engine.caching import Caching
from prefect_core.engine.cancelled_states import state_instead
from prefect_core.engine.closing import close_transaction
from prefect_core.engine.gates import Held, closed_gate
from prefect_core.engine.gathering import linked_inputs
from prefect_core.engine.hooks import call_hooks, is_async
from prefect_core.engine.isolation import isolate
from prefect_core.engine.keeping import Keeping
from prefect_core.engine.paths import identify_before_body
from prefect_core.engine.remaking import fetched, healed
from prefect_core.engine.steps import Block, Life, Sleep, Wait, attempt
from prefect_core.engine.task_call import TaskCall
from prefect_core.engine.transitions import enter
from prefect_core.errors import (
    FlowPauseTimeout,
    Pause,
    PrefectException,
    RunnerError,
    SerializationError,
    UpstreamTaskError,
    describe,
    shown,
)
from prefect_core.limits import limited
from prefect_core.payload import Payload, Receipt
from prefect_core.references import Reference
from prefect_core.results.kept import KeptValue
from prefect_core.state_kinds import CANCELLED, CANCELLING, COMPLETED, CRASHED, FAILED, PENDING, RUNNING
from prefect_core.states import AwaitingRetry, State

_MOST_UNREADY = 5
NOT_BEGUN = "The flow run was paused before this task run could start, and did not go on in this process."


Attempted = tuple[Payload, Receipt]
"""An attempt that was made before there was a lifecycle, and what came of it."""


def task_life(call: TaskCall, first: Attempted | None = None) -> Life[State]:
    """Take a task run from Pending, or from the end of its first attempt, to its own end; returns its last state."""
    run = call.run
    taker = None if call.is_submitted else call.taker
    if taker is not None:
        # The body that called it is one that the flow run may let go, and this run with it. It may also be cancelled alone.
        taker.enter(call)
    try:
        try:
            if first is None:
                if (yield from _gather_inputs(call)) is not None:
                    logs.task_finished(call.context, run.state)
                    return run.state
                _take_name(call)
        except transitions.RunIsOver:
            return run.state
        except Exception as error:
            call.end(State(FAILED, None, f"Task run encountered an exception {describe(error)}", data=error))
            return run.state
        except BaseException as error:
            return crash(call, error)
        is_new = yield from _end(call, first)
    finally:
        if taker is not None:
            taker.leave(call)
    state = run.state
    if call.context.transaction is not None:
        yield from close_transaction(call, state, call.context.transaction)
    hooks = call.task.hooks_for(state.type)
    if hooks and is_new:
        yield from call_hooks(hooks, call.task, state, call.context)
    if call.origin is not None:
        if isinstance(state.data, Reference):
            call.origin.settle()
        # It refers to the call, for as long as somebody refers to it.
        call.origin = None
    return state


def _end(call: TaskCall, first: Attempted | None) -> Life[bool]:
    """Bring a run whose inputs are there to its end; False if it was over already, in an earlier attempt or by somebody else."""
    try:
        known = (yield from _known(call)) if first is None else None
        if known is not None:
            state = known
        elif call.caching is None:
            state = yield from _attempts(call, first)
        else:
            state = yield from _cached_or_new(call, call.caching)
    except transitions.RunIsOver:
        return call.run.state.type is CANCELLING and call.end(transitions.cancelled(call.run))
    except BaseException as error:
        crash(call, error)
        return True
    else:
        logs.task_finished(call.context, state)
        return known is None
    finally:
        if call.slots is not None:
            slots.giving_back(call)
        # It refers to this call: together they would stay until the garbage collector, which they would keep busy, finds them.
        call.payload = call.give_back = None
        if call.caching is not None:
            call.caching.let_go()


def _known(call: TaskCall) -> Life[State | None]:
    """Return the state of an earlier execution that stands for this call, or None."""
    if call.keeping is not None:
        return (yield from call.keeping.reuse())
    if call.parent is not None:
        identify_before_body(call.context)
    return None


def _cached_or_new(call: TaskCall, caching: Caching) -> Life[State]:
    """End the run with an earlier result that its cache key finds, or else by its body."""
    try:
        cached = yield from caching.look_up()
    except Exception as error:
        return enter(call.run, State(FAILED, None, f"The cache could not be asked: {describe(error)}", data=error))
    state = cached if cached is not None else (yield from _attempts(call, None))
    yield from caching.letting_go()
    return state


def _take_name(call: TaskCall) -> None:
    task, run = call.task, call.run
    if task.task_run_name is None or (call.keeping is not None and call.keeping.is_undecided):
        # An undecided run has its name, and the history must not be told what it shows meanwhile.
        return
    run.name = task.run_name_for(call.context.parameters)
    history.current().renamed(run)


def crash(call: TaskCall, error: BaseException) -> State:
    """End the run of a lifecycle that was interrupted between bodies: while it waited for an input or a delay."""
    if isinstance(error, GeneratorExit):
        # The lifecycle was let go, not interrupted, and may be at any place of the program.
        raise error
    crashed = State(CRASHED, None, transitions.crash_message(error), data=error)
    if not call.end(state_instead(call.context, error) or crashed) and call.run.state.type is COMPLETED:
        # Its value was being made durable; the run is over, but what struck it here is meant for whoever called it.
        raise error
    return call.run.state


def _gather_inputs(call: TaskCall, *, all_ended: bool = False) -> Life[State | None]:
    """Wait for the inputs and put their values in place; returns the state of a run that can't start.

    Inputs whose values the runner will hold are not waited for: the runner's own engine does that. With `all_ended` they are, and what the
    runner can't have otherwise is brought here.
    """
    upstreams = call.upstreams
    if upstreams is None:
        return None
    promised = None
    if not all_ended and call.home is not None and not call.waits_for_all:
        promised = (yield from linked_inputs(call, upstreams)) or upstreams.promised(call.home)
    if promised is None:
        promised = {}
        still_open = call.still_open()
        if still_open:
            yield Wait(still_open)
    call.settle_home()
    if call.home is not None:
        yield from healed(upstreams.lost(call.home))
    by_place = call.held is not None and not all_ended
    yield from fetched(upstreams.afar(call.home, by_place=by_place))
    try:
        call.resolve(promised, by_place=by_place)
    except UpstreamTaskError as error:
        not_ready = State(PENDING, "NotReady", str(error))
        if call.keeping is None or not call.keeping.leave(not_ready):
            enter(call.run, not_ready)
        return call.run.state
    except Exception as error:
        raise PrefectException(
            f"Failed to resolve inputs of {call.run.name!r}: {describe(error)}. If a parameter's type is not supported, wrap the value "
            "in `quote` to skip the search for futures in it, or in `opaque` to skip what is inside it."
        ) from error
    return None


def _attempts(call: TaskCall, made: Attempted | None) -> Life[State]:
    """Run the body until it succeeds or has no retries left; enters and returns the final state."""
    run = call.run
    unready = 0
    around = call.context.flow_context
    while True:
        if made is not None:
            (payload, receipt), made = made, None
        else:
            must_wait = (run.tags and limited(run.tags)) or (around is not None and around.gate is not None)
            if must_wait and (refused := (yield from _await_leave(call))) is not None:
                return refused
            payload = new_payload(call)
            receipt = yield from attempt(payload)
        if call.slots is not None:
            slots.giving_back(call)
        if receipt.unready or type(receipt.error) is Held:
            run.attempt -= 1
            unready += receipt.unready
            state = yield from _after_unready(call, receipt, unready)
            if state is not None:
                return state
            continue
        state = end_of_attempt(call, receipt)
        if call.keeping is not None and state.type is COMPLETED:
            state = yield from _keep(call, call.keeping, state, receipt)
        if (state.type is FAILED or receipt.lost) and receipt.began:
            delay = yield from _retry_delay(call, state, is_crash=receipt.lost)
            if delay is not None:
                yield from _pause_before_retry(call, state, delay, payload)
                continue
        state = enter(run, state)
        if call.keeping is not None:
            yield from _settle(call, call.keeping, state, payload)
        return state


def end_of_attempt(call: TaskCall, receipt: Receipt) -> State:
    """Take note of what is told of an attempt; returns the state that it leads to."""
    run = call.run
    run.worker = receipt.worker
    if run.state.type is not RUNNING and receipt.began and run.state.type is not CANCELLING:
        call.begin(receipt.started_us)
    state = _state_after(call, receipt)
    if isinstance(receipt.value, Reference):
        call.take_credit_for(receipt.value)
    call.has_returned = receipt.error is None
    if receipt.ended_us:
        state.timestamp_us = receipt.ended_us
    return state


def _keep(call: TaskCall, keeping: Keeping, state: State, receipt: Receipt) -> Life[State]:
    state = yield from keeping.keep(state, receipt.stored)
    if call.caching is not None and isinstance(state.kept, KeptValue):
        call.caching.mark(state.kept)
    return state


def _settle(call: TaskCall, keeping: Keeping, state: State, payload: Payload) -> Life[None]:
    yield from keeping.settled(state, payload.over)
    if call.caching is not None and isinstance(state.kept, KeptValue):
        yield from call.caching.settled(state.kept)


def _await_leave(call: TaskCall) -> Life[State | None]:
    """Wait while the flow run around is paused, and for what the tags are limited to; returns the state of a run that is refused."""
    around = call.context.flow_context
    if around is not None and around.gate is not None:
        yield from _await_gate(call, around)
    return (yield from slots.taking(call)) if call.run.tags else None


def _await_gate(call: TaskCall, around: FlowRunContext) -> Life[None]:
    """Wait while the flow run around is paused; ends a run that is not to begin at all."""
    try:
        while (gate := closed_gate(around)) is not None:
            yield Wait([gate])
            if call.run.state.is_final():
                raise transitions.RunIsOver
    except (Pause, FlowPauseTimeout) as refusal:
        call.end(State(CANCELLED, None, NOT_BEGUN, data=refusal))
        raise transitions.RunIsOver from None


def _after_unready(call: TaskCall, receipt: Receipt, times: int) -> Life[State | None]:
    """Wait for the inputs of an attempt that could not begin; returns the state of a run that can't start."""
    # It is with no runner now, whoever asks.
    call.payload, call.is_handed_over = None, False
    if not receipt.unready:
        # A gate closed before it; that is waited for when it is made again.
        return None
    try:
        if times > _MOST_UNREADY:
            raise RunnerError(f"Its inputs are there, and its task runner could not have them, {times} times.")
        return (yield from _gather_inputs(call, all_ended=True))
    except Exception as error:
        return enter(call.run, State(FAILED, None, f"Task run encountered an exception {describe(error)}", data=error))


def new_payload(call: TaskCall) -> Payload:
    """Count one more attempt of a call, and make its payload."""
    call.run.attempt += 1
    payload = call.payload = Payload.of_task(call.args, call.kwargs, call.context, call.variables)
    payload.started = call.begin
    if call.held is not None:
        payload.after = call.held.after
    if call.keeping is not None:
        payload.storing = call.keeping.order
        payload.storage = call.keeping.named_storage
    if call.task.isolation is not None:
        isolate(payload)
    return payload


def _state_after(call: TaskCall, receipt: Receipt) -> State:
    if receipt.error is None and call.run.state.type is not CANCELLING:
        value = receipt.value
        if type(value) in PLAIN_RESULTS:
            return State(COMPLETED, data=value)
        return transitions.state_at_end(value)
    instead = state_instead(call.context, receipt.error, is_lost=receipt.lost)
    return instead or transitions.failure("Task run", "", receipt, call.task.timeout_seconds)


PLAIN_RESULTS: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes, dict})


def _delay_after_crash(call: TaskCall, state: State) -> float | None:
    """Return the seconds to wait before an attempt is made again whose place was lost; None if it is not to be."""
    if call.crashes >= (call.task.retries_on_crash or 0):
        logs.note(call.context, logs.ERROR, f"Task run crashed: {state.message} - Attempts after a crash are exhausted")
        return None
    call.crashes += 1
    return 0.0


def _retry_delay(call: TaskCall, state: State, *, is_crash: bool) -> Life[float | None]:
    """Return the seconds to wait before the next attempt, or None if there is to be none."""
    task = call.task
    if state.type is CANCELLED or cancels.has_come_for(call.context):
        return None
    if is_crash and task.retries_on_crash is not None:
        return _delay_after_crash(call, state)
    if not task.retries:
        return None
    if call.keeping is not None and isinstance(state.data, SerializationError):
        # A body that ran once more would only return the same again.
        return None
    if call.tries > task.retries:
        logs.note(
            call.context, logs.ERROR, f"Task run failed with exception: {shown(state.data)} - Retries are exhausted"
        )
        return None
    if task.retry_condition_fn is not None:
        allowed: bool = yield Block(lambda: _condition_holds(call, state), False)
        if not allowed:
            return None
    return task.retry_delay(call.tries - 1)


@deadlines.door
def _condition_holds(call: TaskCall, state: State) -> bool:
    task, run = call.task, call.run
    condition = task.retry_condition_fn
    assert condition is not None
    token = context.enter(call.context)
    try:
        if is_async(condition):
            return bool(portal.run(condition, task, run, state))
        return bool(condition(task, run, state))
    except Exception as error:
        logs.note(
            call.context,
            logs.ERROR,
            f"An error was encountered while running `retry_condition_fn` check {getattr(condition, '__name__', condition)!r} for "
            f"task {task.name!r}",
            error,
        )
        return False
    finally:
        context.leave(token)


def _pause_before_retry(call: TaskCall, state: State, delay: float, payload: Payload) -> Life[None]:
    run = call.run
    when = f"will start {delay:g} second(s) from now" if delay else "will start immediately"
    if state.type is CRASHED and call.task.retries_on_crash is not None:
        told = f"Task run crashed: {state.message} - Attempt {call.crashes}/{call.task.retries_on_crash} after a crash {when}"
    else:
        retry = f"Retry {call.tries}/{call.task.retries} {when}"
        told = f"Task run failed with exception: {shown(state.data)} - {retry}"
    logs.note(call.context, logs.INFO, told)
    awaiting = AwaitingRetry(
        scheduled_time=clock.to_datetime(state.timestamp_us) + timedelta(seconds=delay), message=state.message
    )
    awaiting.timestamp_us = state.timestamp_us
    enter(run, awaiting)
    if delay:
        yield Sleep(delay, payload)
    if payload.over is not None:
        # The body of the attempt that timed out may still run; two bodies of one run never run at once.
        yield Wait([payload.over])
