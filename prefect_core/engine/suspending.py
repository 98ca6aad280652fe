"""What a flow run's lifecycle does at a gate: before its body begins, when its body has ended, and where it does not go on here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_core import clock
from prefect_core.engine import transitions
from prefect_core.engine.gates import Held, closed_gate, flow_around, open_anew
from prefect_core.engine.steps import Life, Wait
from prefect_core.errors import FlowPauseTimeout, Pause
from prefect_core.payload import Receipt
from prefect_core.state_kinds import CANCELLED, PENDING
from prefect_core.states import State

if TYPE_CHECKING:
    from prefect_core.engine.dispatcher import Dispatcher
    from prefect_core.engine.flow_call import FlowCall

NOT_BEGUN = "The flow run around was paused before this one could start, and did not go on in this process."


def pass_gate(call: FlowCall) -> Life[State | None]:
    """Wait while the flow run around is paused; returns the state of a run that is not to begin at all."""
    if call.tries:
        # What the last attempt was refused with is over.
        open_anew(call.context)
    outer = flow_around(call.parent)
    if outer is None or outer.gate is None:
        return None
    try:
        while (gate := closed_gate(outer)) is not None:
            yield Wait([gate])
            if call.run.state.is_final():
                raise transitions.RunIsOver
    except (Pause, FlowPauseTimeout) as refusal:
        return State(CANCELLED, None, NOT_BEGUN, data=refusal)
    return None


def at_end(call: FlowCall, receipt: Receipt) -> Life[Receipt]:
    """Wait with the end of a run that is held; returns the receipt of its body, or that of what its gate refused."""
    error = receipt.error
    pausing = call.context.pausing
    if error is not None and not _comes_of_pause(error) and not (pausing.is_suspended and isinstance(error, Exception)):
        pausing.abandon()
        return receipt
    try:
        while (gate := closed_gate(call.context)) is not None:
            yield Wait([gate])
    except GeneratorExit:
        raise
    except BaseException as refusal:
        receipt = Receipt(error=refusal)
        receipt.ended_us = clock.now_us()
    return receipt


def _comes_of_pause(error: BaseException) -> bool:
    # A task group of the body's wraps what its tasks raise.
    return isinstance(error, Pause) or (isinstance(error, BaseExceptionGroup) and error.subgroup(Pause) is not None)


def wind_up_suspended(dispatcher: Dispatcher, receipt: Receipt) -> Life[Receipt]:
    """Cancel what has not begun, and let the bodies that run come to their ends, however long they take."""
    dispatcher.cancel_unstarted(NOT_BEGUN)
    try:
        yield Wait([dispatcher.idle()])
    except GeneratorExit:
        raise
    except BaseException as error:
        # Ctrl-C: the run stays paused; what has not ended by now is lost.
        dispatcher.let_go(transitions.crash_message(error))
    return receipt


def state_at_gate(call: FlowCall, error: BaseException) -> State | None:
    """Return the state of a run that ends, or does not begin, because of a gate; None for any other end.

    Pending is that of a run whose body is to begin later.
    """
    if type(error) is Held:
        return State(PENDING)
    if not isinstance(error, Pause):
        return None
    if call.context.pausing is not None and call.context.pausing.is_suspended:
        return call.run.state
    return transitions.failure("Flow run", ":", Receipt(error=error), None)
