"""What every lock manager can do."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from functools import partial

from prefect_core import clock, moments
from prefect_core.moments import Moments, Work

FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.005, 0.25
"""How long is waited before a lock is asked for again: shortly at first, then longer and longer."""

log = logging.getLogger("prefect_core.locking")


class IsolationLevel(Enum):
    """What two runs or transactions with the same key may do at once."""

    READ_COMMITTED = "READ_COMMITTED"
    """Compute beside each other; each sees what others have committed, and the last one's value stays."""
    SERIALIZABLE = "SERIALIZABLE"
    """One computes, the others wait for it and get its value."""


class LockManager(ABC):
    """Locks by key, each with at most one holder, whose own name for itself is a text. From any thread.

    A lock manager of your own needs the five plain methods; the async twins ask them again and again.
    """

    @abstractmethod
    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Take the lock and return True; False if it was not to be had within `acquire_timeout` seconds (None: wait for ever, 0: ask once).

        It is let go of after `hold_timeout` seconds, if these are given. Who has it already gets it again.
        """

    @abstractmethod
    def release_lock(self, key: str, holder: str) -> None:
        """Let go of the lock. Raises `ValueError` if `holder` does not have it."""

    @abstractmethod
    def is_locked(self, key: str) -> bool:
        """Tell whether somebody has the lock."""

    @abstractmethod
    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Tell whether `holder` has the lock."""

    @abstractmethod
    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Block until nobody has the lock and return True, or return False after `timeout` seconds."""

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Do what `acquire_lock` does, without blocking the event loop."""
        ask = partial(self.acquire_lock, key, holder, 0, hold_timeout)
        return await moments.arun(asking(ask, acquire_timeout))

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Do what `wait_for_lock` does, without blocking the event loop."""
        return await moments.arun(asking(lambda: not self.is_locked(key), timeout))


def asking(ask: Callable[[], bool], timeout: float | None) -> Moments[bool]:
    """Ask until the answer is True and return True, or return False when `timeout` seconds have passed."""
    now = clock.current().monotonic
    end = None if timeout is None else now() + timeout
    pause = FIRST_PAUSE_SECONDS
    while not (yield Work(ask)):
        left = pause if end is None else end - now()
        if left <= 0:
            return False
        yield min(pause, left)
        pause = min(1.5 * pause, MOST_PAUSE_SECONDS)
    return True


def not_held(key: str, holder: str) -> ValueError:
    """Return the error for somebody who lets go of a lock that is not theirs."""
    return ValueError(f"No lock held by {holder} for transaction with key {key}")
