"""What others ask of the pauses of a flow run that is under way here: to pause it, and to let it go on."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING

from prefect_core.engine.pausing import NOT_RUNNING, Pausing, Refused, Wish
from prefect_core.errors import HistoryError, NotPausedError, describe
from prefect_core.input_forms import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect_core.control.watches import Delivery
    from prefect_core.engine.flow_call import FlowCall

INVALID, NOT_PAUSED, REFUSED = "invalid", "not_paused", "refused"
"""Keys of answers that say why a request was not met."""


def pause(call: FlowCall, delivery: Delivery) -> None:
    """Pause the run; `detail` has `timeout_seconds`, `key` and `reschedule`. The answer tells the `message` of the state."""
    _beside(_pause, call.context.pausing, delivery)


def resume(call: FlowCall, delivery: Delivery) -> None:
    """Let the run go on; `detail` has `input`, JSON or None."""
    _beside(_resume, call.context.pausing, delivery)


def _beside(work: Callable[[Pausing | None, Delivery], object], pausing: Pausing | None, delivery: Delivery) -> None:
    threading.Thread(target=_carry_out, args=(work, pausing, delivery), name="prefect_core-asked", daemon=True).start()


def _carry_out(work: Callable[[Pausing | None, Delivery], object], pausing: Pausing | None, delivery: Delivery) -> None:
    try:
        work(pausing, delivery)
    except HistoryError:
        # The history that can't be written is told of by the run itself.
        return
    except Exception as error:
        delivery.answer({"error": describe(error)})


def _pause(pausing: Pausing | None, delivery: Delivery) -> None:
    detail = delivery.detail
    is_suspended = bool(detail.get("reschedule"))
    name = "Suspended" if detail.get("verb") == "suspend" else None
    wish = Wish(detail.get("timeout_seconds"), is_suspended=is_suspended, name=name)
    try:
        if pausing is None:
            raise Refused(NOT_RUNNING)
        if is_suspended:
            pausing.check_suspendable(wish.verb)
        opened = pausing.begin(wish, detail.get("key") or uuid.uuid4().hex)
    except Refused as refusal:
        delivery.answer({REFUSED: str(refusal)})
        return
    try:
        # Before the run can end, and with it the chance to answer.
        delivery.answer({"paused": True, "message": opened.state.message if opened.state is not None else None})
    finally:
        if is_suspended:
            pausing.let_end(opened)


def _resume(pausing: Pausing | None, delivery: Delivery) -> None:
    try:
        if pausing is None:
            raise NotPausedError("Cannot resume a run that isn't paused!")
        pausing.resume(
            delivery.detail.get("input"), delivery.request.asked_by, lambda: delivery.answer({"resumed": True})
        )
    except InvalidInput as problem:
        delivery.answer({INVALID: str(problem)})
    except NotPausedError as problem:
        delivery.answer({NOT_PAUSED: str(problem)})
