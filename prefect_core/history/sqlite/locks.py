"""The locks of the SQLite history.

They have connections of their own, since the one that writes the history belongs to the recorder's thread. A lock need not survive a
power cut, after which no holder lives, so its commits wait for no disk.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_core import clock
from prefect_core.history.locks import LockRow
from prefect_core.history.process import IsGone, ProcessIdentity
from prefect_core.history.sqlite.connection import Connections
from prefect_core.history.sqlite.migrate import migrations

if TYPE_CHECKING:
    from prefect_core.history.sqlite.driver import sqlite3

_FIND = """SELECT lock.key, lock.holder, lock.expires_us, lock.renewed_us, process.host, process.boot_id, process.pid, process.pid_started,
    process.pid_namespace
    FROM lock LEFT JOIN process ON process.number = lock.process WHERE lock.key = ?"""


class SqliteLocks:
    """A `LockTable` in table `lock` of the file `history.db` of a folder."""

    def __init__(self, folder: Path) -> None:
        self._connections = Connections(folder, migrations(), is_durable=False)
        self._writing = threading.Lock()

    def take(self, key: str, holder: str, process: int, expires_us: int | None, is_gone: IsGone) -> bool:
        # Most who ask in vain need not wait for those who write.
        if not self._is_free(self.find(key), holder, is_gone):
            return False
        with self._writing, self._connections.transaction() as connection:
            if not self._is_free(_find(connection, key), holder, is_gone):
                return False
            connection.execute(
                "INSERT INTO lock (key, holder, process, expires_us, renewed_us) VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
                "holder = excluded.holder, process = excluded.process, expires_us = excluded.expires_us, renewed_us = excluded.renewed_us",
                (key, holder, process, expires_us, clock.now_us()),
            )
        return True

    @staticmethod
    def _is_free(row: LockRow | None, holder: str, is_gone: IsGone) -> bool:
        return row is None or row.holder == holder or row.is_free(clock.now_us(), is_gone)

    def release(self, key: str, holder: str) -> bool:
        with self._writing, self._connections.transaction() as connection:
            cursor = connection.execute("DELETE FROM lock WHERE key = ? AND holder = ?", (key, holder))
            return cursor.rowcount > 0

    def find(self, key: str) -> LockRow | None:
        with self._connections.reading() as connection:
            return _find(connection, key)

    def renew(self, process: int) -> int:
        with self._writing, self._connections.transaction() as connection:
            cursor = connection.execute("UPDATE lock SET renewed_us = ? WHERE process = ?", (clock.now_us(), process))
            return cursor.rowcount

    def close(self) -> None:
        """Close the connections."""
        self._connections.close_behind(self._writing)


def _find(connection: sqlite3.Connection, key: str) -> LockRow | None:
    row = connection.execute(_FIND, (key,)).fetchone()
    if row is None:
        return None
    key, holder, expires_us, renewed_us, *owner = row
    return LockRow(key, holder, ProcessIdentity(*owner) if owner[0] is not None else None, expires_us, renewed_us)
