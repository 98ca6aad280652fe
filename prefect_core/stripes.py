"""Locks for very many small objects: a fixed set of them, each object using the one that its address falls on.

One lock for all would be enough to be right, since each is held for some hundred nanoseconds, but it forms convoys: a thread that is
given the lock while another runs Python keeps it until it gets the interpreter, and every other thread that comes by stops meanwhile.
With hundreds of stripes two threads hardly ever meet on one. A lock in each object would cost more memory than what it guards.
"""

from __future__ import annotations

import os
import threading

_COUNT = 1024


class Stripes:
    """A set of locks; a child process after `fork` has fresh ones."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._locks = [threading.Lock() for _ in range(_COUNT)]

    def of(self, owner: object) -> threading.Lock:
        """Return the lock of an object; not reentrant, and to be held alone: two objects may share one."""
        return self._locks[(id(owner) >> 4) % _COUNT]
