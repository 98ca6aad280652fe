"""What is to be done when a flow run ends, and who does it: hooks that must be called once at most, and runs that are to be run again.

A run says with its first state which kinds of states have hooks, and what to do after a crash. A state that has hooks is written in one
transaction with the row that they are owed; its process then writes that it calls them, and calls them. Hooks of a process that was lost
before that, or would have entered the state itself, are anybody's who claims them, which is durable before the first is called: so they
are called once, or not at all if whoever had claimed them is lost too.

Whoever declares a process dead counts that for each of its root flow runs. A value that was stored since the last time is progress, and
the count begins anew.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from prefect_core.state_kinds import CANCELLED, CRASHED, FAILED

OWED_KINDS = (FAILED, CANCELLED, CRASHED)
"""The kinds of states whose hooks somebody else calls where their process could not."""
RESUME = "resume"
"""What `on_crash` may say."""
MOST_LOSSES = 3
"""How often in a row a run may lose its process without progress."""
KEEPS_CRASHING = "KeepsCrashing"
"""The name of the state, Crashed by its kind, of a run that has."""


class OwedRow(NamedTuple):
    """Hooks of one state of a flow run that nobody calls."""

    run: int
    at_us: int
    """The moment of the state."""


class Endings(Protocol):
    """The part of a history that knows what is to be done at the ends of flow runs. From any thread; may raise `HistoryError`."""

    def resumable(self) -> list[int]:
        """Return the root flow runs that crashed and whose flow has `on_crash="resume"`, oldest first; those left alone too."""
        ...

    def owed(self, flow_run: int | None = None) -> list[OwedRow]:
        """Return the hooks that nobody calls, whose process has ended, oldest first: of all runs, or of a flow run and those in it."""
        ...

    def claim_owed(self, owed: OwedRow, called_by: str) -> bool:
        """Note that the caller calls these hooks; durable when this returns. False if somebody else does, or their process lives."""
        ...


def left_alone_message(times: int) -> str:
    """Return the message of a run that lost its process so often that it is left alone."""
    return (
        f"The process that ran this ended without a word, {times} times in a row and without progress in between. It is left alone now: "
        "only `prefect-core flow-run retry` runs it again."
    )
