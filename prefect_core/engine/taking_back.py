"""Taking back what runners have and have not begun, when the flow run that it was submitted in is paused.

What shares the engine's memory needs none of that: its bodies look at the gate before they begin.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefect_core.engine.gates import Held
from prefect_core.engine.task_call import TaskCall
from prefect_core.payload import Payload, Receipt
from prefect_core.state_kinds import FINAL, RUNNING, SCHEDULED

if TYPE_CHECKING:
    from prefect_core.engine.dispatcher import Dispatcher

_NEWS_SECONDS = 5.0
"""How long it may take to hear of a body that a worker on this machine was just given: it begins at once."""
_LATE_NEWS_SECONDS = 0.25
"""The same for a cluster's, whose engine may keep it for long, and where only the receipt will tell."""
_ROUND_SECONDS = 0.005


def take_back(dispatcher: Dispatcher) -> int:
    """Keep for later what a flow run's runners have not begun; returns how many could not be had back and may yet begin."""
    asked: dict[int, list[tuple[TaskCall, Payload]]] = {}
    for call in dispatcher.open_calls():
        if not isinstance(call, TaskCall) or not _is_away(call):
            continue
        payload = call.payload
        if payload is None:
            continue
        if call.bundle is not None and call.bundle.withdraw(payload):
            _give_back(call, payload)
        else:
            asked.setdefault(id(call.runner), []).append((call, payload))
    left: list[TaskCall] = []
    for having in asked.values():
        taken = having[0][0].runner.cancel_many([payload for _, payload in having])
        for (call, payload), is_taken in zip(having, taken, strict=True):
            if is_taken:
                _give_back(call, payload)
            else:
                left.append(call)
    return _still_to_begin(left)


def _is_away(call: TaskCall) -> bool:
    """Tell whether another process has it, and was not heard to have begun it."""
    kind = call.run.state.type
    is_handed_over = call.payload is not None and call.begins_elsewhere
    return is_handed_over and kind is not RUNNING and kind is not SCHEDULED and kind not in FINAL


def _give_back(call: TaskCall, payload: Payload) -> None:
    give_back = call.give_back
    if call.payload is payload and give_back is not None:
        call.payload = None
        give_back(Receipt(error=Held()))


def _still_to_begin(calls: list[TaskCall]) -> int:
    began = time.monotonic()
    while (calls := [call for call in calls if _is_away(call)]) and any(_is_awaited(call, began) for call in calls):
        time.sleep(_ROUND_SECONDS)
    return len(calls)


def _is_awaited(call: TaskCall, since: float) -> bool:
    is_late = call.runner.holds_values or not call.runner.tells_begun
    return time.monotonic() - since < (_LATE_NEWS_SECONDS if is_late else _NEWS_SECONDS)
