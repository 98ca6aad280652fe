"""The connections of one history file: one that writes, one that reads, and how they wait, fail, and are replaced.

Nobody ever sees "database is locked": a lock that somebody else holds is waited for as long as it takes, in short rounds between which
the lock that keeps checkpoints away is given back. After any other error the connections are not trusted again (what a failed fsync
left behind can't be known) but replaced by `reopen`.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from weakref import WeakSet

from prefect_core.crash_points import crash_point
from prefect_core.errors import HistoryError
from prefect_core.history.sqlite import driver, home, insert
from prefect_core.history.sqlite.driver import sqlite3
from prefect_core.history.sqlite.locks import WriteLock
from prefect_core.history.sqlite.migrate import Migration, migrate

T = TypeVar("T")

FILE_NAME = "history.db"
CHECKPOINT_BYTES = 8 << 20
"""A write-ahead log that grew by this much since the last checkpoint gets one."""
_CLOSE_PATIENCE_SECONDS = 5.0
_CHECKPOINT_PATIENCE_SECONDS = 0.2
_BUSY_WARNING_SECONDS = 10.0
_log = logging.getLogger("prefect_core.history")


class Connections:
    """The open connections of one process to one file."""

    def __init__(self, folder: Path, migrations: list[Migration]) -> None:
        """Open the history of `folder`, made if it is missing. Raises `HistoryError`."""
        self.folder = folder
        self.path = folder / FILE_NAME
        self._migrations = migrations
        self._read_lock = threading.Lock()
        self._next_checkpoint = CHECKPOINT_BYTES
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._lock: WriteLock | None = None
        _all.add(self)
        self.reopen()

    def reopen(self) -> None:
        """Close what is open and open it anew. Raises `HistoryError`."""
        self.close()
        home.prepare(self.folder, self.path)
        try:
            self._lock = WriteLock(self.path)
            self._writer = driver.connect(str(self.path))
            self._prepare(self._writer, self._lock)
        except (driver.Error, OSError) as error:
            self.close()
            raise self._explain(error, "opened") from error
        except BaseException:
            self.close()
            raise

    def _prepare(self, connection: sqlite3.Connection, lock: WriteLock) -> None:
        mode = _waiting(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone()[0], _Patience(self.path))
        if mode != "wal":
            raise HistoryError(
                f"The history can't be kept in {self.folder}: SQLite's write-ahead log does not work there (journal mode {mode!r}). "
                "Set PREFECT_CORE_HOME to a folder on a local disk."
            )
        migrate(connection, self._migrations, lambda: self._begun(connection, lock))
        insert.prepare(connection)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Begin a write transaction, waiting for others, and commit it at the end. Raises `HistoryError` when something fails."""
        connection, lock = self._open_writer()
        try:
            with self._begun(connection, lock):
                yield connection
                crash_point("history.before_commit")
                connection.execute("COMMIT")
        except (driver.Error, OSError) as error:
            self._roll_back(connection)
            raise self._explain(error, "written") from error
        except BaseException:
            self._roll_back(connection)
            raise
        crash_point("history.after_commit")

    @contextmanager
    def _begun(self, connection: sqlite3.Connection, lock: WriteLock) -> Iterator[None]:
        patience = _Patience(self.path)
        while True:
            with lock.shared():
                try:
                    connection.execute("BEGIN IMMEDIATE")
                except driver.Error as error:
                    if not driver.is_busy(error):
                        raise
                else:
                    crash_point("history.begun")
                    yield
                    return
            patience.spend()

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        with suppress(driver.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _open_writer(self) -> tuple[sqlite3.Connection, WriteLock]:
        if self._writer is None or self._lock is None:
            raise HistoryError(f"The history {self.path} is closed.")
        return self._writer, self._lock

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for reading, of which one thread at a time may make use. Raises `HistoryError` when reading fails."""
        with self._read_lock:
            try:
                if self._reader is None:
                    self._reader = driver.connect(str(self.path), readonly=True, busy_seconds=30)
                yield self._reader
            except driver.Error as error:
                raise self._explain(error, "read") from error

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database if it has grown; later, if somebody is in the way."""
        connection, lock = self._open_writer()
        with suppress(driver.Error, OSError):
            size = self.wal_bytes()
            if size < self._next_checkpoint:
                return
            with lock.exclusive(_CHECKPOINT_PATIENCE_SECONDS) as alone:
                if alone:
                    crash_point("history.before_checkpoint")
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                    crash_point("history.after_checkpoint")
            # Readers at work may have kept the log from being cut.
            self._next_checkpoint = self.wal_bytes() + CHECKPOINT_BYTES

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        try:
            return Path(f"{self.path}-wal").stat().st_size
        except OSError:
            return 0

    def close(self) -> None:
        """Close all; the last connection of all processes to close moves the write-ahead log into the database."""
        with self._read_lock:
            self._close()

    def _close(self) -> None:
        lock, self._lock = self._lock, None
        open_ones = [connection for connection in (self._reader, self._writer) if connection is not None]
        self._reader = self._writer = None
        if lock is not None:
            with lock.exclusive(_CLOSE_PATIENCE_SECONDS):
                for connection in open_ones:
                    with suppress(driver.Error):
                        connection.close()
            lock.close()

    def abandon(self) -> list[object]:
        """Forget all without touching it, and return what must never be closed: for a child after `fork`."""
        if self._lock is not None:
            self._lock.close()
        kept: list[object] = [connection for connection in (self._reader, self._writer) if connection is not None]
        self._reader = self._writer = self._lock = None
        return kept

    def _explain(self, error: BaseException, what: str) -> HistoryError:
        if driver.is_damage(error):
            return home.damaged(self.path, str(error))
        return HistoryError(
            f"The history {self.path} can't be {what}: {error}. Check that the disk is in order and has space, or set PREFECT_CORE_HOME "
            "to another folder."
        )


class _Patience:
    """Says once in the log that a lock has been held by somebody else for long."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._since = time.monotonic()
        self._told = False

    def spend(self) -> None:
        """Note that one more round of waiting is over."""
        if not self._told and time.monotonic() - self._since > _BUSY_WARNING_SECONDS:
            self._told = True
            _log.warning("Another process has locked the history %s for %d s; still waiting.", self._path, _BUSY_WARNING_SECONDS)


def _waiting(call: Callable[[], T], patience: _Patience) -> T:
    """Return what `call` gives, called again for as long as somebody else holds a lock."""
    while True:
        try:
            return call()
        except driver.Error as error:
            if not driver.is_busy(error):
                raise
        patience.spend()
        time.sleep(0.01)  # SQLite does not wait by itself for every kind of lock


_all: WeakSet[Connections] = WeakSet()
_kept: list[object] = []


def _abandon_all() -> None:
    for connections in tuple(_all):
        _kept.extend(connections.abandon())
    _all.clear()
    if _kept:
        atexit.register(_leak)


def _leak() -> None:
    """Keep the end of Python from closing the parent's connections: SQLite forbids a child even that."""
    import ctypes  # only a child that ends like a program of its own comes here

    for kept in _kept:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
    _kept.clear()


os.register_at_fork(after_in_child=_abandon_all)
