"""The connections of one history file: one that writes, one that reads, and how they wait, fail, and are replaced.

Nobody ever sees "database is locked": a lock that somebody else holds is waited for as long as it takes. After any other error the
connections are not trusted again (what a failed fsync left behind can't be known) but replaced by `reopen`.

Checkpoints are made here and nowhere else, and never beside a commit: SQLite before 3.51.3 can lose a commit that resets the write-ahead
log while somebody makes a checkpoint. Every commit of every process needs SQLite's write lock, so that is taken first, and then a second
connection makes the checkpoint. The only other one is that of the last connection to close, for which SQLite locks everybody out.
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
from prefect_core.history.sqlite import driver, home
from prefect_core.history.sqlite.driver import sqlite3
from prefect_core.history.sqlite.fork_gate import inside, outside
from prefect_core.history.sqlite.migrate import Migration, migrate

T = TypeVar("T")

FILE_NAME = "history.db"
PAGE_BYTES = 2048
"""Of a file that is made here. A commit writes whole pages, one at least of each table and index, mostly for some hundred bytes in all."""
CHECKPOINT_PAGES = 2000
"""A write-ahead log gets a checkpoint when one process has added about this many pages to it."""
_PAGES_PER_COMMIT, _ROWS_PER_PAGE = 8, 12
_LOG_BYTES_KEPT = 16 << 20
_CLOSE_SECONDS = 5.0
_BUSY_WARNING_SECONDS = 10.0
_log = logging.getLogger("prefect_core.history")


class Connections:
    """The open connections of one process to one file."""

    def __init__(self, folder: Path, migrations: list[Migration], is_durable: bool = True) -> None:
        """Open the history of `folder`, made if it is missing; commits of one that is not durable may be lost in a power cut.

        Raises `HistoryError`.
        """
        self.folder = folder
        self.path = folder / FILE_NAME
        self._migrations = migrations
        self._is_durable = is_durable
        self._read_lock = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        _all.add(self)
        self.reopen()
        self._pages_added = self.wal_bytes() // PAGE_BYTES

    def reopen(self) -> None:
        """Close what is open and open it anew. Raises `HistoryError`."""
        self.close()
        home.prepare(self.folder, self.path)
        try:
            with inside():
                self._writer = driver.connect(str(self.path))
            self._prepare(self._writer)
        except (driver.Error, OSError) as error:
            self.close()
            raise self._explain(error, "opened") from error
        except BaseException:
            self.close()
            raise

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # Of a file that is not empty this changes nothing.
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        mode = _waiting(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone()[0], self.path)
        if mode != "wal":
            raise HistoryError(
                f"The history can't be kept in {self.folder}: SQLite's write-ahead log does not work there (journal mode {mode!r}). "
                "Set PREFECT_CORE_HOME to a folder on a local disk."
            )
        with inside():
            connection.execute(f"PRAGMA journal_size_limit={_LOG_BYTES_KEPT}")
            migrate(connection, self._migrations, lambda: self._begin(connection))
            if not self._is_durable:
                connection.execute("PRAGMA synchronous=NORMAL")

    @contextmanager
    def transaction(self, rows: int = 0, *, is_patient: bool = True) -> Iterator[sqlite3.Connection]:
        """Begin a write transaction of about so many rows, waiting for others as long as it takes, and commit it at the end.

        One that is not patient waits for half a second at most. Raises `HistoryError` when something fails; then nothing was written, or
        (if the commit itself failed) perhaps all.
        """
        connection = self._open_writer()
        try:
            with inside():
                if is_patient:
                    self._begin(connection)
                else:
                    connection.execute("BEGIN IMMEDIATE")
                crash_point("history.begun")
                yield connection
                crash_point("history.before_commit")
                connection.execute("COMMIT")
        except (driver.Error, OSError) as error:
            self._roll_back(connection)
            raise self._explain(error, "written") from error
        except BaseException:
            self._roll_back(connection)
            raise
        self._pages_added += _PAGES_PER_COMMIT + rows // _ROWS_PER_PAGE
        crash_point("history.after_commit")

    def make_hasty(self) -> None:
        """Have the commits that follow wait for no disk: for what a power cut makes true anyway."""
        with inside():
            self._open_writer().execute("PRAGMA synchronous=NORMAL")

    def _begin(self, connection: sqlite3.Connection) -> None:
        _waiting(lambda: connection.execute("BEGIN IMMEDIATE"), self.path)

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        with suppress(driver.Error), inside():
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _open_writer(self) -> sqlite3.Connection:
        if self._writer is None:
            raise HistoryError(f"The history {self.path} is closed.")
        return self._writer

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for reading, of which one thread at a time may make use. Raises `HistoryError` when reading fails."""
        with self._read_lock, inside():
            try:
                if self._reader is None:
                    self._reader = driver.connect(str(self.path), readonly=True, busy_seconds=30)
                yield self._reader
            except driver.Error as error:
                raise self._explain(error, "read") from error

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database if this process has made it grow; later, if somebody is in the way."""
        if self._pages_added < CHECKPOINT_PAGES:
            return
        connection = self._open_writer()
        # Tried again when half as much was added, should readers keep it from being moved as a whole.
        self._pages_added = CHECKPOINT_PAGES // 2
        try:
            with inside():
                connection.execute("BEGIN IMMEDIATE")
                crash_point("history.before_checkpoint")
                if self._move_log():
                    self._pages_added = 0
                crash_point("history.after_checkpoint")
        except (driver.Error, OSError) as error:
            _log.debug("No checkpoint of %s: %s", self.path, error)
        finally:
            self._roll_back(connection)

    def _move_log(self) -> bool:
        mover = driver.connect(str(self.path))
        try:
            busy, logged, moved = mover.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            mover.close()
        return not busy and logged == moved

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        try:
            return Path(f"{self.path}-wal").stat().st_size
        except OSError:
            return 0

    def close(self) -> None:
        """Close all; the last connection of all processes to close moves the write-ahead log into the database."""
        with self._read_lock:
            open_ones = [connection for connection in (self._reader, self._writer) if connection is not None]
            self._reader = self._writer = None
            for connection in open_ones:
                with suppress(driver.Error), inside():
                    connection.close()

    def close_behind(self, writing: threading.Lock) -> None:
        """Close all once nobody holds the lock under which they are written with; if that takes long, the end of the process does.

        SQLite does not survive it if a connection is closed that another thread is in the midst of using.
        """
        if writing.acquire(timeout=_CLOSE_SECONDS):
            try:
                self.close()
            finally:
                writing.release()

    def abandon(self) -> list[object]:
        """Forget all without touching it, and return what must never be closed: for a child after `fork`."""
        kept: list[object] = [connection for connection in (self._reader, self._writer) if connection is not None]
        self._reader = self._writer = None
        return kept

    def _explain(self, error: BaseException, what: str) -> HistoryError:
        if driver.is_damage(error):
            return home.damaged(self.path, str(error))
        return HistoryError(
            f"The history {self.path} can't be {what}: {error}. Check that the disk is in order and has space, or set PREFECT_CORE_HOME "
            "to another folder."
        )


def _waiting(call: Callable[[], T], path: Path) -> T:
    """Return what `call` gives, called again for as long as somebody else holds a lock, with a warning if that is long."""
    since, told = time.monotonic(), False
    while True:
        try:
            with inside():
                return call()
        except driver.Error as error:
            if not driver.is_busy(error):
                raise
        if not told and time.monotonic() - since > _BUSY_WARNING_SECONDS:
            told = True
            _log.warning(
                "Another process has locked the history %s for %d s; still waiting.", path, _BUSY_WARNING_SECONDS
            )
        with outside():
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
