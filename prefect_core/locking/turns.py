"""Turns: who in this process computes the value of a key now. The others wait for a signal, and need no thread for that.

A turn belongs to a run, or to a transaction. Somebody may go on inside the turn of another: code that runs inside its holder, which would
wait for itself otherwise; and the calls of one outermost transaction (`group`) once the value is staged in it, since it is committed only
after they have ended.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection
from typing import NamedTuple

from prefect_core.waiting import Signal


class Claimant(NamedTuple):
    """Who wants a turn: the uid of its run (0 for a block), those around it, its outermost transaction, and what tells its loop."""

    uid: int
    around: Collection[int]
    group: object | None
    loop: Callable[[], object | None] | None = None


class Turn(Signal):
    """A turn that somebody has; fires when waiting for it may have an end: it is over, or its value is staged."""

    __slots__ = ("holder", "is_staged", "key")

    def __init__(self, key: str, holder: Claimant) -> None:
        super().__init__()
        self.key = key
        self.holder = holder
        self.is_staged = False

    def run_uid(self) -> int:
        return self.holder.uid

    def loop_needed(self) -> object | None:
        return self.holder.loop() if self.holder.loop is not None else None

    def admits(self, claimant: Claimant) -> bool:
        """Tell whether somebody may go on inside this turn."""
        if self.holder.uid and self.holder.uid in claimant.around:
            return True
        # A block's turn is held around all that is inside the block.
        is_open = self.is_staged or not self.holder.uid
        return is_open and claimant.group is not None and claimant.group is self.holder.group


_turns: dict[str, Turn] = {}
_lock = threading.Lock()


def take(key: str, claimant: Claimant) -> Turn | None:
    """Return the turn of a key: a new one, which is the claimant's then, or the one to wait for; None if there is nothing to wait for."""
    with _lock:
        turn = _turns.get(key)
        if turn is None:
            turn = _turns[key] = Turn(key, claimant)
            return turn
        return None if turn.admits(claimant) else turn


def holder(key: str) -> int | None:
    """Return the uid of the run in this process whose turn a key is, 0 for that of a block; None if it is nobody's."""
    turn = _turns.get(key)
    return turn.holder.uid if turn is not None else None


def stage(turn: Turn) -> Turn:
    """Let other calls of the holder's transaction go on; returns what stands for the turn from now on."""
    staged = Turn(turn.key, turn.holder)
    staged.is_staged = True
    with _lock:
        _turns[turn.key] = staged
    turn.fire()
    return staged


def end(turn: Turn) -> None:
    """End a turn; the next one may have the key."""
    with _lock:
        if _turns.get(turn.key) is turn:
            del _turns[turn.key]
    turn.fire()


def _begin_anew() -> None:
    global _lock
    _lock = threading.Lock()
    _turns.clear()


os.register_at_fork(after_in_child=_begin_anew)
