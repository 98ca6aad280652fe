"""Locks among the threads of one process."""

from __future__ import annotations

import os
import threading
from typing import Any, ClassVar, Self

from prefect_core import clock
from prefect_core.locking.interface import LockManager, log, not_held


class MemoryLockManager(LockManager):
    """Locks in the memory of this process, which has one of these, however often it is made."""

    _only: ClassVar[Any] = None
    _making = threading.Lock()
    _changed: threading.Condition
    _held: dict[str, tuple[str, float | None]]

    def __new__(cls) -> Self:
        with MemoryLockManager._making:
            if MemoryLockManager._only is None:
                made = MemoryLockManager._only = super().__new__(cls)
                made._begin_anew()
            only: Self = MemoryLockManager._only
            return only

    def _begin_anew(self) -> None:
        self._changed = threading.Condition()
        self._held = {}

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        with self._changed:
            if not self._until_free(key, holder, acquire_timeout):
                return False
            self._held[key] = (holder, None if hold_timeout is None else clock.current().monotonic() + hold_timeout)
            return True

    def _until_free(self, key: str, holder: str | None, timeout: float | None) -> bool:
        """Wait until nobody but `holder` has the lock. The condition is held."""
        now = clock.current().monotonic
        end = None if timeout is None else now() + timeout
        while (held := self._held_now(key)) is not None and held[0] != holder:
            moments = [moment for moment in (held[1], end) if moment is not None]
            if end is not None and now() >= end:
                return False
            # In rounds where there is no end, so that a signal is heard.
            clock.current().wait_until(self._changed, min(moments, default=now() + 0.5))
        return True

    def _held_now(self, key: str) -> tuple[str, float | None] | None:
        held = self._held.get(key)
        if held is not None and held[1] is not None and held[1] <= clock.current().monotonic():
            del self._held[key]
            return None
        return held

    def release_lock(self, key: str, holder: str) -> None:
        with self._changed:
            held = self._held_now(key)
            if held is None or held[0] != holder:
                raise not_held(key, holder)
            del self._held[key]
            self._changed.notify_all()

    def is_locked(self, key: str) -> bool:
        with self._changed:
            return self._held_now(key) is not None

    def is_lock_holder(self, key: str, holder: str) -> bool:
        with self._changed:
            held = self._held_now(key)
            return held is not None and held[0] == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        with self._changed:
            return self._until_free(key, None, timeout)

    def __reduce__(self) -> tuple[Any, ...]:
        log.warning("A MemoryLockManager was pickled: where it arrives, in another process, its locks are others.")
        return MemoryLockManager, ()


def _begin_anew() -> None:
    MemoryLockManager._making = threading.Lock()
    if MemoryLockManager._only is not None:
        MemoryLockManager._only._begin_anew()


os.register_at_fork(after_in_child=_begin_anew)
