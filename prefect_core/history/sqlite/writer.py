"""The writing half of the SQLite history: all that a recorder needs, without what readers load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import prefect_core
from prefect_core import clock, settings
from prefect_core.errors import LeaseLost
from prefect_core.history.batch import Batch, Row
from prefect_core.history.process import monotonic_us, this_process
from prefect_core.history.sqlite.connection import Connections
from prefect_core.history.sqlite.insert import insert, unfold
from prefect_core.history.sqlite.migrate import Migration, migrations

if TYPE_CHECKING:
    from prefect_core.history.sqlite.driver import sqlite3

_KEYS_PER_PROCESS = 1 << 32
_TAKEN = "SELECT taken_by FROM lease WHERE process = ? AND taken_by IS NOT NULL"


class SqliteWriter:
    """A `HistoryWriter` to the file `history.db` of a folder."""

    _number = 0
    """That of this process, once it has one."""

    def __init__(self, folder: Path, known_migrations: list[Migration] | None = None) -> None:
        """Open the history of `folder`, made if it is missing. Raises `HistoryError`."""
        self._connections = Connections(folder, known_migrations or migrations())

    def next_key(self) -> int:
        process = this_process()
        length_us = round(settings.current().lease_seconds * 1_000_000)
        with self._connections.transaction() as connection:
            row = (*process, clock.now_us(), getattr(prefect_core, "__version__", ""))
            cursor = connection.execute(
                "INSERT INTO process (number, host, boot_id, pid, pid_started, pid_namespace, opened_us, version) "
                "SELECT coalesce(max(number), 0) + 1, ?, ?, ?, ?, ?, ?, ? FROM process RETURNING number",
                row,
            )
            number: int = cursor.fetchall()[0][0]
            connection.execute(
                "INSERT INTO lease (process, expires_us, length_us) VALUES (?, ?, ?)",
                (number, monotonic_us() + length_us, length_us),
            )
        self._number = number
        return number * _KEYS_PER_PROCESS

    def write(self, batch: Batch) -> None:
        self._write(batch, is_patient=True)

    def write_at_once(self, batch: Batch) -> None:
        self._write(batch, is_patient=False)

    def _write(self, batch: Batch, *, is_patient: bool) -> None:
        try:
            with self._connections.transaction(len(batch), is_patient=is_patient) as connection:
                self._check_lease(connection)
                insert(connection, batch)
        except (UnicodeEncodeError, OverflowError):
            with self._connections.transaction(len(batch), is_patient=is_patient) as connection:
                self._check_lease(connection)
                insert(connection, _storable(batch))

    def _check_lease(self, connection: sqlite3.Connection) -> None:
        # Under the write lock, which whoever takes a lease needs too. One whose row is not there was not taken.
        found = connection.execute(_TAKEN, (self._number,)).fetchone()
        if found is not None:
            raise LeaseLost(
                f"This process was declared dead by {found[0]}, who ended its runs; nothing that happens in it is recorded any more."
            )

    def let_go(self, *, has_open_runs: bool) -> None:
        self._connections.make_hasty()
        with self._connections.transaction() as connection:
            if has_open_runs:
                connection.execute(
                    "UPDATE lease SET let_go_us = ? WHERE process = ? AND taken_by IS NULL",
                    (clock.now_us(), self._number),
                )
            else:
                connection.execute("DELETE FROM lease WHERE process = ? AND taken_by IS NULL", (self._number,))

    def has_unanswered(self) -> bool:
        with self._connections.reading() as connection:
            return connection.execute("SELECT 1 FROM request WHERE answered_us IS NULL LIMIT 1").fetchone() is not None

    def recall(self, key: int) -> tuple[int, int] | None:
        with self._connections.reading() as connection:
            is_plain = connection.execute("SELECT 1 FROM task_run WHERE key = ? AND is_plain", (key,)).fetchone()
        if is_plain is not None:
            # Whoever asks is about to add to it.
            with self._connections.transaction(4) as connection:
                unfold(connection, [key])
        with self._connections.reading() as connection:
            row = connection.execute(
                "SELECT max(seq), min(CASE type WHEN 'RUNNING' THEN timestamp_us END) FROM state WHERE run = ?", (key,)
            ).fetchone()
        return None if row[0] is None else (row[0], row[1] or 0)

    def checkpoint(self) -> None:
        self._connections.checkpoint()

    def reopen(self) -> None:
        self._connections.reopen()

    def close(self) -> None:
        self._connections.close()


def _storable(batch: Batch) -> Batch:
    """Return the batch with texts that UTF-8 can hold and numbers that fit 64 bits."""
    kept = Batch()
    kept.incomplete = batch.incomplete
    for name in Batch.LISTS:
        setattr(kept, name, _storable_rows(getattr(batch, name)))
    kept.of_results = {table: _storable_rows(rows) for table, rows in batch.of_results.items()}
    return kept


def _storable_rows(rows: list[Row]) -> list[Row]:
    return [tuple(map(_storable_cell, row)) for row in rows]


def _storable_cell(cell: Any) -> Any:
    if isinstance(cell, str):
        return cell.encode("utf-8", "backslashreplace").decode()
    if isinstance(cell, int):
        return max(-(1 << 63), min(cell, (1 << 63) - 1))
    return cell
