"""How a run ends that is being cancelled, or that a cancellation around it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_core.engine.cancels import has_come_for
from prefect_core.engine.deadlines import CancelHere
from prefect_core.engine.signals import cause_of, was_signalled
from prefect_core.engine.transitions import cancelled
from prefect_core.errors import CancelledRun
from prefect_core.state_kinds import CANCELLING

if TYPE_CHECKING:
    from prefect_core.context import RunContext
    from prefect_core.states import State


def state_instead(around: RunContext, error: BaseException | None, *, is_lost: bool = False) -> State | None:
    """Return the Cancelled state of a run that ended as it did since it, or one around it, is being cancelled; None for any other end."""
    run = around.run
    if type(error) is CancelHere:
        # What ends a run around this one has to go on to there.
        return cancelled(run, data=None if error.run is run else error)
    cause = None if error is None else cause_of(error)
    if isinstance(cause, KeyboardInterrupt | SystemExit) and was_signalled():
        # Ctrl-C and SIGTERM end this whole process, and have the last word.
        return None
    if run.state.type is CANCELLING:
        return cancelled(run)
    is_stopped = cause is not None and (is_lost or not isinstance(cause, Exception) or isinstance(cause, CancelledRun))
    return cancelled(run, data=error) if is_stopped and has_come_for(around) else None
