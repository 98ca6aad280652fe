"""What others ask of a flow run while it is under way: heard by the steward, and handed to what deals with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from prefect_core import history
from prefect_core.control import steward
from prefect_core.engine import pausing_asked
from prefect_core.engine.accounts import give_account

if TYPE_CHECKING:
    from prefect_core.control.steward import Delivery
    from prefect_core.engine.flow_call import FlowCall

Handler = Callable[["FlowCall", "Delivery"], Any]
"""Called on the steward's thread, which must not be kept; answers the delivery once, then or later."""


def _cancel(call: FlowCall, delivery: Delivery) -> None:
    from prefect_core.engine.cancelling import deal_with  # most flow runs are never cancelled

    deal_with(call, delivery)


HANDLERS: dict[str, Handler] = {
    "cancel": _cancel,
    "pause": pausing_asked.pause,
    "resume": pausing_asked.resume,
    "why": give_account,
}
"""Who deals with what, by the kind of request."""


def hear(call: FlowCall) -> Callable[[], object]:
    """Deal with what is asked of a flow run that begins; returns what ends that."""
    if not history.current().owns_runs:
        # It runs in a worker, whose flow's process is asked.
        return bool
    return steward.watch(call.run.key, partial(_deal_with, call)).close


def _deal_with(call: FlowCall, delivery: Delivery) -> None:
    handler = HANDLERS.get(delivery.kind)
    if handler is None:
        delivery.answer({"error": f"This version of prefect_core can't be asked to {delivery.kind}."})
    else:
        handler(call, delivery)
