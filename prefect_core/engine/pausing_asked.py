"""What others ask of the pauses of a flow run that is under way here: to pause it, and to let it go on."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from functools import partial
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


def pause(call: FlowCall, delivery: Delivery) -> None:
    """Pause the run; `detail` has `timeout_seconds`, `key` and `reschedule`. The answer tells the `message` of the state.

    With `run`, the key of a flow run, it is that one, of those that are under way in a call.
    """
    _beside(_pause, call, delivery)


def resume(call: FlowCall, delivery: Delivery) -> None:
    """Let the run go on; `detail` has `input`, JSON or None, and may have `run`."""
    _beside(_resume, call, delivery)


_Work = Callable[[Pausing | None, "Delivery"], object]


def _beside(work: _Work, call: FlowCall, delivery: Delivery) -> None:
    threading.Thread(target=_carry_out, args=(work, call, delivery), name="prefect_core-asked", daemon=True).start()


def _carry_out(work: _Work, call: FlowCall, delivery: Delivery) -> None:
    try:
        meant = _meant(call, delivery)
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


def _meant(root: FlowCall, delivery: Delivery) -> FlowCall | None:
    """Return the call of the flow run that is asked; None if it is not under way in this process."""
    key = delivery.detail.get("run", root.run.key)
    if key == root.run.key:
        return root
    from prefect_core.engine.finding import find, find_soon  # most runs are never paused from elsewhere

    found = find_soon(partial(find, root, key))
    return found.call if found is not None else None


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
