"""Locks that are kept in the history: what a lock manager asks of it, and when a lock is free again."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from prefect_core.history.process import IsGone, ProcessIdentity, is_over

LEASE_US = 60_000_000
"""How long a lock is taken for held, after its holder last said so, by somebody who can't see whether the holder's process lives."""


class LockRow(NamedTuple):
    """A lock that is held. `expires_us` is the end that its holder has set, None for none; `process` is None for one that is not known."""

    key: str
    holder: str
    process: ProcessIdentity | None
    expires_us: int | None
    renewed_us: int

    def is_free(self, now_us: int, is_gone: IsGone) -> bool:
        """Tell whether somebody else may take the lock although nobody has released it."""
        if self.expires_us is not None and self.expires_us <= now_us:
            return True
        return is_over(self.process, self.renewed_us + LEASE_US, now_us, is_gone)


class LockTable(Protocol):
    """The locks of one history, from any thread. Every method may raise `HistoryError`."""

    def take(self, key: str, holder: str, process: int, expires_us: int | None, is_gone: IsGone) -> bool:
        """Give the lock to `holder` in this history's process of that number, if it is free or theirs already; False if it is not."""
        ...

    def release(self, key: str, holder: str) -> bool:
        """Let go of a lock; False if the holder does not have it."""
        ...

    def find(self, key: str) -> LockRow | None:
        """Return who has a lock, or had it last without releasing it."""
        ...

    def renew(self, process: int) -> int:
        """Say that all locks of a process are still held; returns how many there are."""
        ...
