"""Keeps checkpoints away from commits, over all processes that use one database file.

SQLite before 3.51.3 can lose a commit when one connection resets the write-ahead log while others write or checkpoint. So a commit is
made while holding the lock shared, and a checkpoint, or closing a connection (which checkpoints too), while holding it alone. The lock is
two files beside the database: whoever wants to be alone first shuts the `gate`, which newcomers pass one after the other, and then waits
for those inside to leave; without the gate, steady writers would keep it out for ever. The system drops both locks of a process that dies.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class WriteLock:
    """The lock of one database file. Not for use by two threads at once."""

    def __init__(self, database: Path) -> None:
        self._gate = _open(Path(f"{database}-gate"))
        self._room = _open(Path(f"{database}-room"))

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock together with others who commit; waits while somebody is alone."""
        fcntl.flock(self._gate, fcntl.LOCK_SH)
        try:
            fcntl.flock(self._room, fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    @contextmanager
    def exclusive(self, patience_seconds: float) -> Iterator[bool]:
        """Try to hold the lock alone, waiting at most `patience_seconds`; gives whether it does."""
        deadline = time.monotonic() + patience_seconds
        try:
            yield _lock_by(self._gate, deadline) and _lock_by(self._room, deadline)
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the files; in a child after `fork` this leaves the parent's locks alone."""
        for name in ("_gate", "_room"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.close(descriptor)
            setattr(self, name, -1)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock_by(descriptor: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.001)  # no lock call takes a time limit
        else:
            return True
