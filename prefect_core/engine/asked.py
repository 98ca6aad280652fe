"""What others ask of a run while it is under way: heard by the steward, and handed to what deals with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from prefect_core import history
from prefect_core.control import steward
from prefect_core.engine import pausing_asked
from prefect_core.engine.accounts import give_account, give_account_outside

if TYPE_CHECKING:
    from prefect_core.control.watches import Delivery, Watch
    from prefect_core.engine.dispatcher import Dispatcher
    from prefect_core.engine.flow_call import FlowCall

Handler = Callable[[Any, "Delivery"], Any]
"""Called with the `FlowCall` that is asked, or with the dispatcher of what runs outside of flows; on
the steward's thread, which must not be kept; answers the delivery once, then or later."""


def _cancel(root: FlowCall | Dispatcher, delivery: Delivery) -> None:
    from prefect_core.engine.cancelling import deal_with  # most runs are never cancelled

    deal_with(root, delivery)


HANDLERS: dict[str, Handler] = {
    "cancel": _cancel,
    "pause": pausing_asked.pause,
    "resume": pausing_asked.resume,
    "why": give_account,
}
"""Who deals with what is asked of a flow run, by the kind of request."""
_HANDLERS_OUTSIDE: dict[str, Handler] = {
    "cancel": _cancel,
    "pause": pausing_asked.pause,
    "resume": pausing_asked.resume,
    "why": give_account_outside,
}


def hear(call: FlowCall) -> Callable[[], object]:
    """Deal with what is asked of a flow run that begins; returns what ends that."""
    if not history.current().owns_runs:
        # It runs in a worker, whose flow's process is asked.
        return bool
    key = call.run.key
    pausing_asked.under_way[key] = call
    return partial(_hear_no_more, call, steward.watch(key, partial(_deal_with, call, HANDLERS)))


def _hear_no_more(call: FlowCall, watch: Watch) -> None:
    if pausing_asked.under_way.get(call.run.key) is call:
        # Else the run was run again since.
        del pausing_asked.under_way[call.run.key]
    watch.close()


def deal_with_outside(dispatcher: Dispatcher, delivery: Delivery) -> None:
    """Deal with what is asked of a run outside of flows."""
    _deal_with(dispatcher, _HANDLERS_OUTSIDE, delivery)


def _deal_with(root: FlowCall | Dispatcher, handlers: dict[str, Handler], delivery: Delivery) -> None:
    handler = handlers.get(delivery.kind)
    if handler is None:
        delivery.answer({"error": f"This version of prefect_core can't be asked to {delivery.kind}."})
    else:
        handler(root, delivery)
