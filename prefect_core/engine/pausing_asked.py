"""What others ask of the pauses of a flow run that is under way here: to pause it, and to let it go on."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from prefect_core import history
from prefect_core.engine.pausing import NOT_RUNNING, Pausing, Refused, Wish
from prefect_core.errors import HistoryError, NotPausedError, describe
from prefect_core.input_forms import InvalidInput

if TYPE_CHECKING:
    from prefect_core.control.watches import Delivery
    from prefect_core.engine.flow_call import FlowCall

INVALID, NOT_PAUSED, REFUSED, ELSEWHERE = "invalid", "not_paused", "refused", "elsewhere"
"""Keys of answers that say why a request was not met."""

WITHDRAWN = "Who asked for the pause did not wait for it any longer."
_BEGINNING_SECONDS = 0.2
_ROUND_SECONDS = 0.001

under_way: dict[int, FlowCall] = {}
"""The flow runs of this process that can be paused, by their keys; those in worker processes are none of them."""


def pause(_: object, delivery: Delivery) -> None:
    """Pause a run; `detail` has `run`, its key, `timeout_seconds`, `key` and `reschedule`. The answer tells the `message` of the state."""
    _beside(_pause, delivery)


def resume(_: object, delivery: Delivery) -> None:
    """Let a run go on; `detail` has `run`, its key, and `input`, JSON or None."""
    _beside(_resume, delivery)


_Work = Callable[[Pausing | None, "Delivery"], object]


def _beside(work: _Work, delivery: Delivery) -> None:
    threading.Thread(target=_carry_out, args=(work, delivery), name="prefect_core-asked", daemon=True).start()


def _carry_out(work: _Work, delivery: Delivery) -> None:
    try:
        meant = _meant(delivery.detail["run"])
        # Who asked may have given up before this process came to it.
        if delivery.is_awaited():
            if meant is None:
                # It may have ended just now, which is then to be seen.
                history.current().flush()
                delivery.answer({ELSEWHERE: True})
            else:
                work(meant.context.pausing, delivery)
    except HistoryError:
        # The history that can't be written is told of by the run itself.
        return
    except Exception as error:
        delivery.answer({"error": describe(error)})


def _meant(key: int) -> FlowCall | None:
    """Return the call of a flow run; None if it is not under way in this process. One is recorded a moment before it is."""
    until = time.monotonic() + _BEGINNING_SECONDS
    while (call := under_way.get(key)) is None and time.monotonic() < until:
        time.sleep(_ROUND_SECONDS)
    return call


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
    is_heard = True
    try:
        # Before the run can end, and with it the chance to answer.
        message = opened.state.message if opened.state is not None else None
        is_heard = delivery.answer({"paused": True, "message": message})
    finally:
        if not is_heard:
            # Nobody knows that the run is paused, who asked least of all.
            pausing.give_up(opened, WITHDRAWN)
        elif is_suspended:
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
