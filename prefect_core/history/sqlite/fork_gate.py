"""Keeps `fork` from happening while a thread is inside SQLite, or in a transaction.

SQLite guards its memory with locks, and notes in it which file locks it holds. A child made at a bad moment would find both as they were
and wait for them for ever, once it opened its history. So threads say when they go in, and a fork waits until all are out; it does not
wait for a thread that stays in for seconds, nor for the thread that forks.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST_SECONDS = 5.0

_changed = threading.Condition()
_inside: Counter[int] = Counter()
_forking = 0


@contextmanager
def inside() -> Iterator[None]:
    """Say that this thread is inside SQLite for the length of the block; waits for a fork that is under way. May be nested."""
    me = threading.get_ident()
    with _changed:
        while _forking and _forking != me and not _inside[me]:
            _changed.wait()
        _inside[me] += 1
    try:
        yield
    finally:
        with _changed:
            _inside[me] -= 1
            if not _inside[me]:
                del _inside[me]
                _changed.notify_all()


@contextmanager
def outside() -> Iterator[None]:
    """Say that this thread, which is inside, is not for the length of the block: it only waits."""
    me = threading.get_ident()
    with _changed:
        depth = _inside.pop(me, 0)
        _changed.notify_all()
    try:
        yield
    finally:
        with _changed:
            while _forking and _forking != me:
                _changed.wait()
            if depth:
                _inside[me] = depth


def _before_fork() -> None:
    global _forking
    me = threading.get_ident()
    _changed.acquire()
    _changed.wait_for(lambda: not _forking, _LONGEST_SECONDS)
    _forking = me
    _changed.wait_for(lambda: not _inside.keys() - {me}, _LONGEST_SECONDS)


def _after_in_parent() -> None:
    global _forking
    _forking = 0
    _changed.notify_all()
    _changed.release()


def _after_in_child() -> None:
    global _changed, _forking
    _changed = threading.Condition()
    _forking = 0
    _inside.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
