"""The lock of one key, taken by one run or transaction."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from prefect_core import ids
from prefect_core.clock import now_us
from prefect_core.history.process import this_process
from prefect_core.locking import turns
from prefect_core.locking.interface import FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS, LockManager, log
from prefect_core.locking.turns import Claimant, Turn
from prefect_core.moments import Moments, Work

T = TypeVar("T")


class KeyLock:
    """A turn in this process, and a lock of the lock manager's on top of it."""

    def __init__(self, key: str, manager: LockManager, claimant: Claimant) -> None:
        self.key = key
        process = this_process()
        self.holder = f"{process.host}:{process.pid}:{ids.as_text(claimant.uid or ids.new_id(now_us()))}"
        self._manager = manager
        self._claimant = claimant
        self._turn: Turn | None = None
        self._is_locked = False

    def taking(self, look: Callable[[], T | None]) -> Moments[T | None]:
        """Take the lock and return None; or return what `look` finds, and then have no lock.

        It looks before, between and after: what was computed by whoever had the lock needs no computing.
        """
        while True:
            found: T | None = yield Work(look)
            if found is not None:
                return found
            turn = turns.take(self.key, self._claimant)
            if turn is None:
                return None
            if turn.holder is self._claimant:
                self._turn = turn
                break
            yield turn
        pause = FIRST_PAUSE_SECONDS
        while True:
            found = yield Work(partial(self._try, look))
            if found is not None or self._is_locked:
                break
            yield pause
            pause = min(1.5 * pause, MOST_PAUSE_SECONDS)
        if found is not None:
            yield from self.releasing()
        return found

    def held_up_by(self) -> int | None:
        """Return whom it waits for: the uid of a run in this process, 0 for one that is not known here; None if it does not wait."""
        if self._turn is not None:
            return None if self._is_locked else 0
        uid = turns.holder(self.key)
        return None if uid is None or uid == self._claimant.uid else uid

    def _try(self, look: Callable[[], T | None]) -> T | None:
        self._is_locked = self._manager.acquire_lock(self.key, self.holder, 0)
        return look()

    def stage(self) -> None:
        """Let other calls of the same transaction go on: the value is there for them."""
        if self._turn is not None:
            self._turn = turns.stage(self._turn)

    def releasing(self) -> Moments[None]:
        """Let go of the lock, if it is held."""
        if self._turn is not None:
            yield Work(self.release)

    def release(self) -> None:
        """Do the same on this thread. Never raises."""
        turn, self._turn = self._turn, None
        if turn is None:
            return
        try:
            if self._is_locked:
                self._is_locked = False
                self._manager.release_lock(self.key, self.holder)
        except Exception as error:
            # It had an end of its own, or can't be reached; whoever waits finds out that this process ended, or that time is up.
            log.warning("The lock of key %r could not be released: %s", self.key, error)
        finally:
            turns.end(turn)
