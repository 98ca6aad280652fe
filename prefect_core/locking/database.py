"""Locks in the history, among all processes that record into it."""

from __future__ import annotations

from typing import Any

from prefect_core import clock, history, moments
from prefect_core.history.locks import LockRow, LockTable
from prefect_core.history.process import is_gone
from prefect_core.locking.interface import LockManager, asking, not_held
from prefect_core.locking.renewing import Renewer


class DatabaseLockManager(LockManager):
    """Locks in the history of this process. What a process held that has ended is free, at once on the same machine."""

    def __init__(self) -> None:
        self._renewers: dict[LockTable, Renewer] = {}

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        return moments.run(asking(lambda: self._take(key, holder, hold_timeout), acquire_timeout))

    def _take(self, key: str, holder: str, hold_timeout: float | None) -> bool:
        recorder = history.current()
        table, process = recorder.stored().locks(), recorder.process
        expires_us = None if hold_timeout is None else clock.now_us() + int(hold_timeout * 1_000_000)
        taken = table.take(key, holder, process, expires_us, is_gone)
        if taken and expires_us is None:
            if table not in self._renewers:
                self._renewers = {table: Renewer(lambda: table.renew(process))}
            self._renewers[table].begin()
        return taken

    def _held(self, key: str) -> LockRow | None:
        row = history.current().stored().locks().find(key)
        return None if row is None or row.is_free(clock.now_us(), is_gone) else row

    def release_lock(self, key: str, holder: str) -> None:
        if not history.current().stored().locks().release(key, holder):
            raise not_held(key, holder)

    def is_locked(self, key: str) -> bool:
        return self._held(key) is not None

    def is_lock_holder(self, key: str, holder: str) -> bool:
        row = self._held(key)
        return row is not None and row.holder == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        return moments.run(asking(lambda: not self.is_locked(key), timeout))

    def __eq__(self, other: object) -> bool:
        return type(other) is DatabaseLockManager

    def __hash__(self) -> int:
        return hash(DatabaseLockManager)

    def __reduce__(self) -> tuple[Any, ...]:
        return DatabaseLockManager, ()
