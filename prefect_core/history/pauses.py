"""Pauses: what keeps a flow run from going on, until when, what is wanted of whoever resumes it, and what they gave.

A run that is held waits in its process, which hears of the resume as a request. One that is suspended has no process any more: whoever
resumes it is let run it again, in the transaction that notes the resume, so that of several one gets it. A pause that was resumed has
fired: the call with its key returns at once when the run is run again, unless it ended by a failure or was cancelled in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from prefect_core import clock
from prefect_core.history.batch import Row

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from prefect_core.history.process import ProcessIdentity
    from prefect_core.history.stored import Reopened

NEVER_RESUMED = "The flow was paused and never resumed."


class PauseRow(NamedTuple):
    """One pause of a flow run. `form` and `input` are JSON texts; moments are wall microseconds."""

    run: int
    paused_us: int
    key: str
    is_suspended: int
    """Whether its process has ended, or is about to."""
    until_us: int | None = None
    """When it can no longer be resumed."""
    form: str | None = None
    """What is asked of whoever resumes it (`input_forms`)."""
    left_us: int | None = None
    """When all that had begun before it was suspended had ended."""
    resumed_us: int | None = None
    resumed_by: str | None = None
    input: str | None = None
    is_forgotten: int = 0
    """Whether its key may fire once more."""

    @property
    def has_fired(self) -> bool:
        """Whether the call with its key returns at once."""
        return self.resumed_us is not None and not self.is_forgotten

    @property
    def is_open(self) -> bool:
        """Whether it has yet to be resumed."""
        return self.resumed_us is None and not self.is_forgotten

    @property
    def is_left(self) -> bool:
        """Whether it has yet to be resumed, and no process has the run, also if the one that had it lives on."""
        return bool(self.is_suspended) and self.is_open and self.left_us is not None

    @property
    def paused(self) -> datetime:
        return clock.to_datetime(self.paused_us)

    @property
    def until(self) -> datetime | None:
        return clock.to_datetime(self.until_us) if self.until_us is not None else None

    def noted(self) -> tuple[str, Row]:
        """Return what a recorder is to note of it."""
        return "pause", tuple(self)


class Pauses(Protocol):
    """The pauses of one history, from any thread. Every method may raise `HistoryError`."""

    def pauses(self, run: int) -> list[PauseRow]:
        """Return the pauses of a flow run, first to last."""
        ...

    def expire_pauses(self) -> list[int]:
        """End the suspended runs that can no longer be resumed, Failed; returns them."""
        ...

    def resume_run(
        self,
        run: int,
        process: int,
        resumed_by: str,
        given: str | None,
        is_gone: Callable[[ProcessIdentity], bool | None],
    ) -> Reopened:
        """Let `process` run a suspended flow run again, with the input `given` (JSON); of several that ask at once, one gets it.

        Raises `NotPausedError`, or `NotRunnableAgain` for one that is held in a process, or not left by it yet.
        """
        ...
