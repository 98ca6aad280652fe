"""The locks of a history in memory."""

from __future__ import annotations

import threading

from prefect_core import clock
from prefect_core.history.locks import LockRow
from prefect_core.history.process import IsGone, this_process


class MemoryLocks:
    """A `LockTable` in a dictionary."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, LockRow] = {}

    def take(self, key: str, holder: str, process: int, expires_us: int | None, is_gone: IsGone) -> bool:
        now_us = clock.now_us()
        with self._lock:
            row = self._rows.get(key)
            if row is not None and row.holder != holder and not row.is_free(now_us, is_gone):
                return False
            self._rows[key] = LockRow(key, holder, this_process(), expires_us, now_us)
            return True

    def release(self, key: str, holder: str) -> bool:
        with self._lock:
            row = self._rows.get(key)
            if row is None or row.holder != holder:
                return False
            del self._rows[key]
            return True

    def find(self, key: str) -> LockRow | None:
        with self._lock:
            return self._rows.get(key)

    def renew(self, process: int) -> int:
        now_us = clock.now_us()
        with self._lock:
            self._rows = {key: row._replace(renewed_us=now_us) for key, row in self._rows.items()}
            return len(self._rows)
