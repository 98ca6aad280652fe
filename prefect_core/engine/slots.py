"""The slots of one task run: taken together for all its tags that have a limit before an attempt, given back when the attempt has ended.

Who waits for them is a suspended lifecycle, which keeps neither a thread nor a place in a runner, and is served by the priority of its
task. What a run holds serves the runs inside it as well (`limits.around`): they take turns at its slots, and so never wait for the run
that waits for them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from prefect_core import logs, loops
from prefect_core.engine import transitions
from prefect_core.engine.steps import Life, Wait
from prefect_core.errors import ConcurrencySlotAcquisitionError, HistoryError, describe
from prefect_core.history.limits import TAG_PREFIX, Asked, Refusal
from prefect_core.limits import Desk, Ticket, blocks_among, desk, limited, runs_around
from prefect_core.state_kinds import FAILED
from prefect_core.states import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from prefect_core.context import TaskRunContext
    from prefect_core.engine.task_call import TaskCall
    from prefect_core.payload import Payload
    from prefect_core.runs import TaskRun
    from prefect_core.waiting import Signal

LEASE_US = 60_000_000


class Holder(Protocol):
    """A call that takes slots: of a task, or one that makes a lost value again."""

    run: TaskRun
    context: TaskRunContext
    payload: Payload | None
    slots: TagSlots | None


class TagSlots:
    """What one attempt holds, or waits for."""

    __slots__ = ("_desk", "ticket")

    def __init__(
        self,
        context: TaskRunContext,
        names: tuple[str, ...],
        variables: Context | None,
        loop: Callable[[], object | None],
    ) -> None:
        run = context.task_run
        around = blocks_among(variables) | frozenset(runs_around(run))
        self._desk: Desk = desk()
        asked = Asked(
            names, 1, run.uid, run.name, run.uid, around - {run.uid}, context.task.priority, lease_us=LEASE_US
        )
        self.ticket = Ticket(asked, loop=loop)

    def ask(self) -> None:
        """Ask for the slots."""
        self._desk.ask(self.ticket)

    def give_back(self, _: Signal | None = None) -> None:
        """Give the slots back, or wait no longer for them; harmless to say twice."""
        self._desk.end(self.ticket)


def taking(call: TaskCall) -> Life[State | None]:
    """Take the slots of a run's tags, if some have a limit; returns the state of a run that can never have them."""
    try:
        names = limited(call.run.tags)
        if not names:
            return None
        here = loops.running_loop()
        loop = call.loop_needed if call.is_submitted else lambda: here
        call.slots = TagSlots(call.context, names, call.variables, loop)
        refusal = yield from _take(call, call.slots)
    except HistoryError as error:
        return _refuse(call, f"Its concurrency limits could not be asked: {describe(error)}", error)
    return None if refusal is None else _refuse(call, _never(refusal))


def taking_again(again: Holder, variables: Context | None) -> Life[None]:
    """Do so for a value that is made again. Raises `ConcurrencySlotAcquisitionError`."""
    names = limited(again.run.tags)
    if names:
        again.slots = TagSlots(again.context, names, variables, lambda: None)
        refusal = yield from _take(again, again.slots)
        if refusal is not None:
            raise ConcurrencySlotAcquisitionError(_never(refusal))


def _take(call: Holder, slots: TagSlots) -> Life[Refusal | None]:
    ticket = slots.ticket
    slots.ask()
    yield Wait([ticket])
    if ticket.error is not None:
        raise ticket.error
    if ticket.answer is not None and ticket.answer.refusal is not None:
        return ticket.answer.refusal
    if not ticket.is_granted:
        # Somebody has ended it.
        raise transitions.RunIsOver
    ticket.lost.add_done_callback(partial(_tell_lost, call))
    return None


def _never(refusal: Refusal) -> str:
    tag = refusal.name.removeprefix(TAG_PREFIX)
    return f'The concurrency limit on tag "{tag}" is {refusal.slots} and will deadlock if the task tries to run again.'


def _refuse(call: TaskCall, message: str, cause: Exception | None = None) -> State:
    error = ConcurrencySlotAcquisitionError(message)
    error.__cause__ = cause
    return transitions.enter(call.run, State(FAILED, None, message, data=error))


def _tell_lost(call: Holder, _: Signal) -> None:
    logs.note(
        call.context,
        logs.WARNING,
        "The lease on the slots of its tags ran out while it runs, so others may have got them: this process could not renew it.",
    )


def giving_back(call: Holder) -> None:
    """Give the slots of an attempt back that has ended, or, if it only ran out of time, when its body has."""
    slots, call.slots = call.slots, None
    assert slots is not None
    over = call.payload.over if call.payload is not None else None
    if over is None:
        slots.give_back()
    else:
        over.add_done_callback(slots.give_back)
