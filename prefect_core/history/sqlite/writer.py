"""The writing half of the SQLite history: all that a recorder needs, without what readers load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import prefect_core
from prefect_core import clock
from prefect_core.history.batch import Batch, Row
from prefect_core.history.process import this_process
from prefect_core.history.sqlite.connection import Connections
from prefect_core.history.sqlite.insert import insert, unfold
from prefect_core.history.sqlite.migrate import Migration, migrations

_KEYS_PER_PROCESS = 1 << 32


class SqliteWriter:
    """A `HistoryWriter` to the file `history.db` of a folder."""

    def __init__(self, folder: Path, known_migrations: list[Migration] | None = None) -> None:
        """Open the history of `folder`, made if it is missing. Raises `HistoryError`."""
        self._connections = Connections(folder, known_migrations or migrations())

    def next_key(self) -> int:
        with self._connections.transaction() as connection:
            row = (*this_process(), clock.now_us(), getattr(prefect_core, "__version__", ""))
            cursor = connection.execute(
                "INSERT INTO process SELECT coalesce(max(number), 0) + 1, ?, ?, ?, ?, ?, ? FROM process RETURNING number",
                row,
            )
            number: int = cursor.fetchall()[0][0]
        return number * _KEYS_PER_PROCESS

    def write(self, batch: Batch) -> None:
        self._write(batch, is_patient=True)

    def write_at_once(self, batch: Batch) -> None:
        self._write(batch, is_patient=False)

    def _write(self, batch: Batch, *, is_patient: bool) -> None:
        try:
            with self._connections.transaction(len(batch), is_patient=is_patient) as connection:
                insert(connection, batch)
        except (UnicodeEncodeError, OverflowError):
            with self._connections.transaction(len(batch), is_patient=is_patient) as connection:
                insert(connection, _storable(batch))

    def recall(self, key: int) -> tuple[int, int] | None:
        with self._connections.reading() as connection:
            is_plain = connection.execute("SELECT 1 FROM task_run WHERE key = ? AND is_plain", (key,)).fetchone()
        if is_plain is not None:
            # Whoever asks is about to add to it.
            with self._connections.transaction(4) as connection:
                unfold(connection, key)
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
