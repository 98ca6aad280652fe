"""Leases, requests, pauses and inputs in the SQLite history.

They are read through the connection that the store reads with, and written with connections of their own, opened when that is first
needed: those of a recorder belong to its writer.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prefect_core import clock
from prefect_core.history.leases import LeaseRow, Sight
from prefect_core.history.process import ProcessIdentity, monotonic_us
from prefect_core.history.requests import ENDED, RequestRow
from prefect_core.history.sqlite import closing, pauses, sent
from prefect_core.history.sqlite.connection import Connections
from prefect_core.history.sqlite.migrate import migrations

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from contextlib import AbstractContextManager

    from prefect_core.history.pauses import PauseRow
    from prefect_core.history.sent import SentInput
    from prefect_core.history.sqlite.driver import sqlite3
    from prefect_core.history.stored import Reopened

_CLOSE_SECONDS = 5.0
_PROCESS = "host, boot_id, pid, pid_started, pid_namespace"
_LEASES = f"""SELECT number, {_PROCESS}, expires_us, length_us, let_go_us, taken_by,
    seen_by, seen_us, seen_expires_us FROM lease JOIN process ON number = lease.process"""
_REQUESTS = "SELECT key, run, kind, detail, asked_by, asked_us, answered_us, answer FROM request"


class SqliteControl:
    """A `Control` in the file `history.db` of a folder."""

    def __init__(self, reading: Connections) -> None:
        self._reading = reading
        self._own: Connections | None = None
        self._lock = threading.Lock()
        """Held by who writes."""

    def _transaction(self, rows: int = 0) -> AbstractContextManager[sqlite3.Connection]:
        """Begin to write; with the lock held."""
        if self._own is None:
            self._own = Connections(self._reading.folder, migrations())
        return self._own.transaction(rows)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction of few rows beside what the recorder writes, and commit it at the end of the block."""
        with self._lock, self._transaction() as connection:
            yield connection

    def leases(self) -> list[LeaseRow]:
        with self._reading.reading() as connection:
            return [_lease(row) for row in connection.execute(f"{_LEASES} WHERE taken_by IS NULL ORDER BY number")]

    def lease(self, number: int) -> LeaseRow | None:
        with self._reading.reading() as connection:
            row = connection.execute(f"{_LEASES} WHERE number = ?", (number,)).fetchone()
        return _lease(row) if row is not None else None

    def owner(self, run: int) -> int:
        with self._reading.reading() as connection:
            return closing.owner(connection, run)

    def renew_lease(self, number: int, length_us: int) -> bool:
        with self._lock, self._transaction() as connection:
            connection.execute(
                "UPDATE lease SET expires_us = ?, length_us = ? WHERE process = ? AND taken_by IS NULL",
                (monotonic_us() + length_us, length_us, number),
            )
            taken = connection.execute(
                "SELECT 1 FROM lease WHERE process = ? AND taken_by IS NOT NULL", (number,)
            ).fetchone()
            return taken is None

    def process(self, number: int) -> ProcessIdentity | None:
        with self._reading.reading() as connection:
            row = connection.execute(f"SELECT {_PROCESS} FROM process WHERE number = ?", (number,)).fetchone()
        return ProcessIdentity(*row) if row is not None else None

    def cancel_left(self, run: int, message: str) -> bool:
        with self._lock, self._transaction(100) as connection:
            has_it = "SELECT 1 FROM lease WHERE process = ? AND taken_by IS NULL AND let_go_us IS NULL"
            is_left = any(pause.is_left for pause in pauses.pauses(connection, run)[-1:])
            if not is_left and connection.execute(has_it, (closing.owner(connection, run),)).fetchone() is not None:
                return False
            runs = closing.open_in_tree(connection, run)
            if run not in runs.flow_runs:
                return False
            closing.end_lost(connection, runs, message, are_cancelled=True)
            closing.answer_for(connection, [run], ENDED)
            return True

    def take_lease(self, seen: LeaseRow, taken_by: str, cancelled: int | None = None) -> list[int] | None:
        with self._lock, self._transaction(100) as connection:
            taken = connection.execute(
                "UPDATE lease SET taken_by = ?, taken_us = ? WHERE process = ? AND taken_by IS NULL AND expires_us = ? AND let_go_us IS ?",
                (taken_by, clock.now_us(), seen.number, seen.expires_us, seen.let_go_us),
            )
            if not taken.rowcount:
                return None
            keeps_paused = seen.let_go_us is not None
            return closing.end_process(connection, seen.number, keeps_paused=keeps_paused, cancelled=cancelled)

    def note_sight(self, number: int, sight: Sight) -> None:
        with self._lock, self._transaction() as connection:
            connection.execute(
                "UPDATE lease SET seen_by = ?, seen_us = ?, seen_expires_us = ? WHERE process = ?", (*sight, number)
            )

    def ask(self, run: int, kind: str, detail: Mapping[str, Any], asked_by: str) -> RequestRow:
        values = (run, kind, json.dumps(detail), asked_by, clock.now_us())
        with self._lock, self._transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO request (run, kind, detail, asked_by, asked_us) VALUES (?, ?, ?, ?, ?) RETURNING key",
                values,
            )
            key: int = cursor.fetchall()[0][0]
        return RequestRow(key, *values)

    def request(self, key: int) -> RequestRow | None:
        return next(self._requests("key = ?", key), None)

    def requests(self, run: int) -> list[RequestRow]:
        return list(self._requests("run = ?", run))

    def unanswered(self) -> list[RequestRow]:
        return list(self._requests("answered_us IS NULL"))

    def _requests(self, condition: str, *values: int) -> Iterator[RequestRow]:
        with self._reading.reading() as connection:
            rows = connection.execute(f"{_REQUESTS} WHERE {condition} ORDER BY key", values).fetchall()
        return (RequestRow(*row) for row in rows)

    def answer(self, key: int, answer: Mapping[str, Any]) -> bool:
        with self._lock, self._transaction() as connection:
            cursor = connection.execute(
                "UPDATE request SET answered_us = ?, answer = ? WHERE key = ? AND answered_us IS NULL",
                (clock.now_us(), json.dumps(answer), key),
            )
            return cursor.rowcount > 0

    def pauses(self, run: int) -> list[PauseRow]:
        with self._reading.reading() as connection:
            return pauses.pauses(connection, run)

    def expire_pauses(self) -> list[int]:
        with self._reading.reading() as connection:
            if not pauses.expired(connection, clock.now_us()):
                return []
        with self._lock, self._transaction() as connection:
            return pauses.expire(connection, clock.now_us())

    def resume_run(
        self,
        run: int,
        process: int,
        resumed_by: str,
        given: str | None,
        is_gone: Callable[[ProcessIdentity], bool | None],
    ) -> Reopened:
        with self._lock, self._transaction(100) as connection:
            return pauses.resume(connection, run, process, resumed_by, given, is_gone)

    def send_input(self, row: SentInput) -> bool:
        with self._lock, self._transaction() as connection:
            return sent.keep(connection, row)

    def inputs(self, run: int, channels: Collection[str], after: int = 0) -> list[SentInput]:
        with self._reading.reading() as connection:
            return sent.inputs(connection, run, channels, after)

    def has_input(self, run: int, channels: Collection[str], after: int = 0) -> bool:
        with self._reading.reading() as connection:
            return sent.has_input(connection, run, channels, after)

    def retract(self, key: int) -> None:
        with self._lock, self._transaction() as connection:
            connection.execute("DELETE FROM request WHERE key = ?", (key,))

    def changes(self) -> int:
        with self._reading.reading() as connection:
            number: int = connection.execute("PRAGMA data_version").fetchone()[0]
        return number

    def close(self) -> None:
        """Close the connections that it writes with; those of somebody who waits for the file's lock are left to the end of the process."""
        if self._lock.acquire(timeout=_CLOSE_SECONDS):
            own, self._own = self._own, None
            self._lock.release()
            if own is not None:
                own.close()


def _lease(row: tuple[Any, ...]) -> LeaseRow:
    number, *process = row[:6]
    expires_us, length_us, let_go_us, taken_by = row[6:10]
    sight = Sight(*row[10:]) if row[10] is not None else None
    return LeaseRow(number, ProcessIdentity(*process), expires_us, length_us, let_go_us, taken_by, sight)
