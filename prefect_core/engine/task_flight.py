"""The flight of a submitted task run: without a lifecycle of its own for as long as there is nothing for one to do.

Most runs wait for nothing, take nothing over, and end by returning a value. What these do is begun and ended here, by the same functions
as in `task_run`. All else is for the lifecycle, which goes on from what came of the attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_core import logs
from prefect_core.engine.launch import Flight
from prefect_core.engine.paths import identify_before_body
from prefect_core.engine.steps import Life
from prefect_core.engine.task_run import PLAIN_RESULTS, crash, end_of_attempt, new_payload, task_life
from prefect_core.engine.transitions import RunIsOver, enter, run_and_complete
from prefect_core.payload import Payload, Receipt
from prefect_core.state_kinds import CANCELLING, COMPLETED, PENDING
from prefect_core.states import State

if TYPE_CHECKING:
    from prefect_core.engine.dispatcher import Dispatcher
    from prefect_core.engine.task_call import TaskCall


def _nothing() -> Life[State]:
    return State(COMPLETED)
    yield


_OVER = _nothing()
"""The lifecycle of a run that is over."""
next(_OVER, None)


class TaskFlight(Flight):
    """One submitted task run under way."""

    __slots__ = ("_first",)

    def __init__(self, call: TaskCall, dispatcher: Dispatcher) -> None:
        super().__init__(None, call, dispatcher)
        self._first: Payload | None = None
        """That of an attempt that was begun without a lifecycle."""

    def begin(self) -> None:
        """Go as far as is possible at once."""
        if self._call.bundle is None or self._stays_here:
            self.resume()
        else:
            # Without the trampoline: what goes into a chunk can't be over before this returns, and release others inside of it.
            self._advance(None)

    def _go_on(self, given: Any, error: BaseException | None) -> bool:
        if self._life is not None:
            return super()._go_on(given, error)
        call, first = self._call, self._first
        if first is not None:
            is_over = _end_plainly(call, first, given)
            self._life, self._first = _OVER if is_over else task_life(call, (first, given)), None
            if is_over:
                return True
        elif self._stays_here or not _begins_plainly(call):
            self._life = task_life(call)
        else:
            return self._begin_plainly()
        return super()._go_on(None, None)

    def _begin_plainly(self) -> bool:
        call = self._call
        try:
            if call.parent is not None:
                identify_before_body(call.context)
            payload = self._first = new_payload(call)
        except BaseException as error:
            crash(call, error)
            self._life = _OVER
            return True
        self._hand_over(payload)
        return False


def _begins_plainly(call: TaskCall) -> bool:
    """Tell whether nothing comes before the body of a run, and nothing behind it if that returns."""
    task, around = call.task, call.context.flow_context
    return (
        call.upstreams is None
        and call.keeping is None
        and call.caching is None
        and call.context.transaction is None
        and task.isolation is None
        and task.task_run_name is None
        and not task.on_completion_hooks
        and not call.run.tags
        and (around is None or around.gate is None)
    )


def _end_plainly(call: TaskCall, payload: Payload, receipt: Receipt) -> bool:
    """End a run whose body returned what is just a value; False if there is more to it."""
    if receipt.error is not None or type(receipt.value) not in PLAIN_RESULTS or call.run.state.type is CANCELLING:
        return False
    try:
        state = _completed_at_once(call, receipt) or enter(call.run, end_of_attempt(call, receipt))
    except RunIsOver:
        return False
    except BaseException as error:
        crash(call, error)
    else:
        logs.task_finished(call.context, state)
    # What refers to the call in a circle keeps the garbage collector busy.
    payload.handle = call.payload = call.give_back = None
    return True


def _completed_at_once(call: TaskCall, receipt: Receipt) -> State | None:
    """Return the last state of a run of whose body nothing was heard before its receipt; None if there is more to its course."""
    if call.run.state.type is not PENDING or not receipt.began or not receipt.ended_us or call.task.on_running_hooks:
        return None
    call.run.worker = receipt.worker
    state = State(COMPLETED, data=receipt.value)
    state.timestamp_us = receipt.ended_us
    if not run_and_complete(call.run, receipt.started_us, state):
        return None
    call.has_returned = True
    return state
