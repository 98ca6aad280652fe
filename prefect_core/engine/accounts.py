"""What only the process of a run knows of it: where the calls stand in it that the history shows as Pending or Running.

It is asked for (`reasons.owners`) and answered as a JSON object. Everything is read off what the calls hold anyway, so that no call
pays for it; of a call that goes on meanwhile some of it may be a moment old.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect_core import ids
from prefect_core.engine.awaited_inputs import account_of
from prefect_core.engine.task_call import TaskCall
from prefect_core.state_kinds import RUNNING, SCHEDULED

if TYPE_CHECKING:
    from prefect_core.control.watches import Delivery
    from prefect_core.engine.dispatcher import Dispatcher
    from prefect_core.engine.flow_call import FlowCall
    from prefect_core.payload import Payload

Account = dict[str, Any]

_SHOWN = 10
"""Of many runs that something waits for, so many are named."""


def give_account(call: FlowCall, delivery: Delivery) -> None:
    """Answer a request whose detail has the id of a run under "run": the flow run itself, or a task run in it."""
    delivery.answer(_account(call, UUID(delivery.detail["run"]).int))


def give_account_outside(dispatcher: Dispatcher, delivery: Delivery) -> None:
    """Do the same for a task run outside of flows."""
    delivery.answer(_account_among(dispatcher, UUID(delivery.detail["run"]).int))


def _account(call: FlowCall, uid: int) -> Account:
    """Tell where a run stands, under "step"; None for what was called directly, of which the process knows no more than others."""
    dispatcher = call.dispatcher
    if call.run.uid == uid:
        awaits_children = dispatcher is not None and dispatcher.awaits_children
        return {"step": "children"} if awaits_children else {"step": "body", **account_of(uid)}
    return _account_among(dispatcher, uid) if dispatcher is not None else {"step": None}


def _account_among(dispatcher: Dispatcher, uid: int) -> Account:
    for one, future in dispatcher.futures_of_open_calls():
        if isinstance(one, TaskCall) and future.task_run.uid == uid:
            return _of_task(one, dispatcher)
    return {"step": None, **account_of(uid)}


def _of_task(call: TaskCall, dispatcher: Dispatcher) -> Account:
    kind = call.run.state.type
    payload = call.payload  # let go by the lifecycle when it ends
    if kind is RUNNING:
        runner = call.runner.name if call.runner is not None else None
        return {"step": "body", "runner": runner, **account_of(call.run.uid)}
    if call.slots is not None and not call.slots.ticket.done():
        return {"step": "limit"}
    if kind is SCHEDULED:
        has_late_body = payload is not None and payload.over is not None and not payload.over.done()
        return {"step": "late body" if has_late_body else "retry"}
    if call.still_open():
        return {"step": "inputs"}
    held_up = call.caching.held_up_by() if call.caching is not None else None
    if held_up is not None:
        key, holder = held_up
        return {"step": "lock", "key": key, "holder": ids.as_text(holder) if holder else None}
    if payload is None:
        return {"step": "preparing"}
    if call.bundle is not None and call.bundle.has(payload):
        return {"step": "gathering"}
    return _handed_over(call, payload, dispatcher)


def _handed_over(call: TaskCall, payload: Payload, dispatcher: Dispatcher) -> Account:
    runner = call.runner
    if runner is None:
        return {"step": "preparing"}
    others = [one for one in dispatcher.open_calls() if isinstance(one, TaskCall) and one is not call]
    beside = [one for one in others if one.runner is runner]
    chunk = getattr(payload, "chunk", None)
    if chunk is not None:
        ahead = [one for one in beside if _chunk_of(one) == chunk and one.run.uid < call.run.uid]
        if ahead:
            running = [one for one in ahead if one.run.state.type is RUNNING]
            return {"step": "chunk", "runner": runner.name, "ahead": len(ahead), "running": _ids(running)}
    running = [one for one in beside if one.run.state.type is RUNNING]
    return {
        "step": "runner",
        "runner": runner.name,
        "running_count": len(running),
        "running": _ids(running),
        "resources": dict(payload.resources),
    }


def _chunk_of(call: TaskCall) -> int | None:
    payload = call.payload
    return getattr(payload, "chunk", None) if payload is not None else None


def _ids(calls: list[TaskCall]) -> list[str]:
    return [str(call.run.id) for call in calls[:_SHOWN]]
