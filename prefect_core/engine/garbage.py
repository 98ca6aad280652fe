"""Holds the garbage collector back while many objects are made that live on.

Python looks for circles of garbage whenever some hundreds more objects were made than let go, and each time some of these looks come to
all objects of the process. Where calls are made by the thousand, none of which can be over yet, that took a third of the time and found
nothing. What was made counts as long-lived at once when that is over: circles that other threads left meanwhile are found when the
collector next looks through everything.
"""

from __future__ import annotations

import gc
import os
import threading

# Python 3.12 freezes some hundreds of its own objects as it starts. Whoever freezes theirs has many thousands with them.
_FROZEN_BY_PYTHON = 1000

_lock = threading.Lock()
_bursts = 0
_was_enabled = False


class Burst:
    """A time in which much is made and little let go, from its making until `end`."""

    def __init__(self) -> None:
        global _bursts, _was_enabled
        with _lock:
            if not _bursts:
                _was_enabled = gc.isenabled()
                gc.disable()
            _bursts += 1
        self._is_over = False

    def end(self) -> None:
        """Let the collector work again as before, when no other burst is left; harmless to say twice."""
        global _bursts
        with _lock:
            if self._is_over:
                return
            self._is_over = True
            _bursts -= 1
            if not _bursts and _was_enabled:
                _grow_old()
                gc.enable()


def _grow_old() -> None:
    """Let all objects count as long-lived, without a look at any."""
    # What somebody has frozen, to fork behind it mostly, has to stay that.
    if gc.get_freeze_count() < _FROZEN_BY_PYTHON:
        gc.freeze()
        gc.unfreeze()


def _end_in_child() -> None:
    global _lock, _bursts
    _lock = threading.Lock()
    # Whoever makes much does so in the parent.
    if _bursts and _was_enabled:
        gc.enable()
    _bursts = 0


os.register_at_fork(after_in_child=_end_in_child)
