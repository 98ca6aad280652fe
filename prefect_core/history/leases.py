"""Leases: how a process that owns runs shows that it lives, and when others may say that it does not.

A process that records has a lease from its first moment, and says every few seconds that it still lives. Whoever looks judges:

    it let go of its lease, and left runs open           over, at once
    same kernel (boot id), same pid namespace            over once the process is not there; never while it is, however old the lease is
    same kernel, another or an unknown namespace         over once the lease has expired: the monotonic clock is the same
    another kernel of a machine with this name           over, at once: the machine has started anew
    another machine                                      over once the same expiry was seen for a whole lease by this one's clock

So neither a clock that is set, nor a laptop that slept (the monotonic clock did, too), nor a stopped process, nor a body that holds the
interpreter is taken for an end. SQLite's write-ahead log means that one kernel at a time has the file, so the last row is for folders
that were moved; who saw what when stands in the history itself, so that the looks of short commands add up. A process that is there and
not shown, since /proc hides those of other users, counts as one of an unknown namespace.

A lease is taken in one transaction with the end of all runs of its process, if nobody took it before and its process did not speak up
meanwhile; a process writes nothing without its lease (`LeaseLost`).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from prefect_core.history.process import ProcessIdentity, boot_id, is_gone


class Sight(NamedTuple):
    """That somebody on the machine with this boot id found a lease with this expiry, at a moment of its own monotonic clock."""

    by: str
    at_us: int
    expires_us: int


class LeaseRow(NamedTuple):
    """The lease of one process. `expires_us` is on the monotonic clock of the process's machine, in microseconds."""

    number: int
    """Number of the process in the history."""
    process: ProcessIdentity
    expires_us: int
    length_us: int
    let_go_us: int | None = None
    """When the process ended and left runs open (wall microseconds)."""
    taken_by: str | None = None
    """Who declared the process dead."""
    seen: Sight | None = None


class Leases(Protocol):
    """The leases of one history, from any thread. Every method may raise `HistoryError`."""

    def leases(self) -> list[LeaseRow]:
        """Return the leases that nobody took: of processes that live, and of those whose end nobody has noticed."""
        ...

    def lease(self, number: int) -> LeaseRow | None:
        """Return the lease of a process; None if it has ended and left nothing open."""
        ...

    def owner(self, run: int) -> int:
        """Return the number of the process to which a run belongs: the last that was let run its root again, else who made it."""
        ...

    def renew_lease(self, number: int, length_us: int) -> bool:
        """Have a lease expire so long from now; False if it was taken, or its process let go of it."""
        ...

    def process(self, number: int) -> ProcessIdentity | None:
        """Return which process has or had a number; None if that is not known any more."""
        ...

    def cancel_left(self, run: int, message: str) -> bool:
        """End a flow run that no process has any more, and what is open in it, Cancelled; False if it has ended, or a process has it.

        No process has one that is suspended and was left, even if the one that left it lives on.
        """
        ...

    def take_lease(self, seen: LeaseRow, taken_by: str, cancelled: int | None = None) -> list[int] | None:
        """End what a dead process left open, and answer what was asked of it; returns the runs that were ended.

        Cancelling runs, the flow run `cancelled` and those in it end Cancelled, others Crashed. Runs that are Paused by a process that let
        go stay so. None if somebody else was first, or the lease is no longer as it was seen.
        """
        ...

    def note_sight(self, number: int, sight: Sight) -> None:
        """Note which expiry was seen, for a later look."""
        ...


def is_over(lease: LeaseRow, now_us: int) -> bool | None:
    """Tell whether the process of a lease has ended; None if the lease's clock is not the one here.

    `now_us` is the moment on this machine's monotonic clock.
    """
    if lease.let_go_us is not None:
        return True
    gone = is_gone(lease.process)
    if gone is not None:
        return gone
    here = boot_id()
    return lease.expires_us <= now_us if here and here == lease.process.boot_id else None


def was_seen_unchanged(lease: LeaseRow, here: str, now_us: int) -> bool | None:
    """Tell whether a whole lease has passed since this machine, of the boot id `here`, saw the lease as it is; None if it never did."""
    seen = lease.seen
    if seen is None or (seen.by, seen.expires_us) != (here, lease.expires_us) or seen.at_us > now_us:
        return None
    return now_us - seen.at_us >= lease.length_us
