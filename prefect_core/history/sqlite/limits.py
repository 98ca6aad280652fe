"""The concurrency limits of the SQLite history.

They have connections of their own, like the locks. Requests need not survive a power cut, after which nobody lives who made them, so
their commits wait for no disk; those that make, change or remove a limit do.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_core import clock
from prefect_core.history.limits import Asked, Exchanged, LimitRow, RequestRow, Seen
from prefect_core.history.process import IsGone, ProcessIdentity
from prefect_core.history.slots import Claim, Office, Owned, Party, Pool, Waiting, over
from prefect_core.history.sqlite.connection import Connections
from prefect_core.history.sqlite.migrate import migrations

if TYPE_CHECKING:
    from prefect_core.history.sqlite.driver import sqlite3

_LIMIT = "SELECT name, slots, decay_per_second, level, level_us, created_us FROM concurrency_limit"
_PROCESS = "process.host, process.boot_id, process.pid, process.pid_started, process.pid_namespace"
_HELD = "SELECT key FROM slot_request WHERE process = ? AND granted_us IS NOT NULL"
_DECAYING = """SELECT DISTINCT name FROM slot_claim JOIN concurrency_limit USING (name)
    WHERE is_waiting AND lender = 0 AND decay_per_second > 0"""


class _Rows:
    """A `Ledger` in the tables of a connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def limit(self, name: str) -> LimitRow | None:
        row = self._execute(f"{_LIMIT} WHERE name = ?", (name,)).fetchone()
        return None if row is None else LimitRow(*row)

    def set_level(self, name: str, level: float, at_us: int) -> None:
        self._execute("UPDATE concurrency_limit SET level = ?, level_us = ? WHERE name = ?", (level, at_us, name))

    def taken(self, pool: Pool) -> int:
        taken: int = self._execute(
            "SELECT coalesce(sum(occupy), 0) FROM slot_claim WHERE name = ? AND lender = ? AND is_waiting = 0", pool
        ).fetchone()[0]
        return taken

    def holders(self, name: str) -> list[tuple[int, int, int]]:
        rows = self._execute(
            "SELECT request, owner, occupy FROM slot_claim JOIN slot_request ON key = request "
            "WHERE name = ? AND is_waiting = 0 AND occupy ORDER BY request",
            (name,),
        )
        return [(key, int.from_bytes(owner, "big"), occupy) for key, owner, occupy in rows]

    def next_waiting(self, pool: Pool, after: tuple[int, int]) -> Waiting | None:
        row = self._execute(
            "SELECT rank, request, occupy FROM slot_claim WHERE name = ? AND lender = ? AND is_waiting = 1 "
            "AND (rank, request) > (?, ?) ORDER BY rank, request LIMIT 1",
            (*pool, *after),
        ).fetchone()
        return None if row is None else Waiting((row[0], row[1]), row[2])

    def is_closed(self, pool: Pool, before: tuple[int, int], room: float) -> bool:
        row = self._execute(
            "SELECT 1 FROM slot_claim WHERE name = ? AND lender = ? AND is_waiting = 1 "
            "AND (rank, request) < (?, ?) AND occupy > ? LIMIT 1",
            (*pool, *before, room),
        ).fetchone()
        return row is not None

    def request(self, key: int) -> Owned | None:
        row = self._execute("SELECT priority, is_rate, granted_us FROM slot_request WHERE key = ?", (key,)).fetchone()
        return None if row is None else Owned(key, (-row[0], key), bool(row[1]), row[2] is not None)

    def claims(self, key: int) -> list[Claim]:
        rows = self._execute("SELECT name, lender, occupy FROM slot_claim WHERE request = ?", (key,)).fetchall()
        return [Claim(Pool(name, lender), occupy) for name, lender, occupy in rows]

    def add(self, asked: Asked, claims: list[Claim], process: int, at_us: int) -> int:
        owner, run = asked.owner.to_bytes(16, "big"), asked.run.to_bytes(16, "big") if asked.run else None
        cursor = self._execute(
            "INSERT INTO slot_request (owner, run, label, process, priority, is_rate, lease_us, asked_us, renewed_us) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (owner, run, asked.label, process, asked.priority, asked.is_rate, asked.lease_us, at_us, at_us),
        )
        key = cursor.lastrowid
        assert key is not None
        for pool, occupy in claims:
            row = (key, *pool, occupy, -asked.priority)
            self._execute("INSERT INTO slot_claim VALUES (?, ?, ?, ?, 1, ?)", row)
        return key

    def grant(self, key: int, at_us: int, *, is_spent: bool) -> None:
        self._execute("UPDATE slot_request SET granted_us = ? WHERE key = ?", (at_us, key))
        occupy = "0" if is_spent else "occupy"
        self._execute(f"UPDATE slot_claim SET is_waiting = 0, occupy = {occupy} WHERE request = ?", (key,))

    def drop(self, key: int) -> None:
        self._execute("DELETE FROM slot_claim WHERE request = ?", (key,))
        self._execute("DELETE FROM slot_request WHERE key = ?", (key,))

    def hand_on(self, lent: Pool, to: Pool) -> None:
        self._execute("UPDATE slot_claim SET lender = ? WHERE name = ? AND lender = ?", (to.lender, *lent))

    def parties(self) -> list[Party]:
        rows = self._execute(
            f"SELECT process, min(renewed_us + lease_us), {_PROCESS} FROM slot_request "
            "LEFT JOIN process ON number = process GROUP BY process"
        ).fetchall()
        return [Party(row[0], _identity(row[2:]), row[1]) for row in rows]

    def requests_of(self, process: int, until_us: int | None) -> list[int]:
        rows = self._execute(
            "SELECT key FROM slot_request WHERE process = ? AND (? IS NULL OR renewed_us + lease_us <= ?)",
            (process, until_us, until_us),
        )
        return [key for (key,) in rows.fetchall()]


def _identity(row: tuple[object, ...]) -> ProcessIdentity | None:
    return ProcessIdentity(*row) if row[0] is not None else None  # type: ignore[arg-type]  # as the columns have them


class SqliteLimits:
    """A `LimitTable` in the file `history.db` of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connections = Connections(folder, migrations(), is_durable=False)
        self._writing = threading.Lock()

    @contextmanager
    def _transaction(self) -> Iterator[_Rows]:
        with self._writing, self._connections.transaction() as connection:
            yield _Rows(connection)

    def limits(self) -> list[LimitRow]:
        with self._connections.reading() as connection:
            return [LimitRow(*row) for row in connection.execute(f"{_LIMIT} ORDER BY name")]

    def put(self, name: str, slots: int, decay_per_second: float) -> bool:
        now_us = clock.now_us()
        with self._lasting() as connection:
            rows = _Rows(connection)
            before = rows.limit(name)
            level = before.level_at(now_us) if before is not None else 0.0
            connection.execute(
                "INSERT INTO concurrency_limit VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET slots = excluded.slots, "
                "decay_per_second = excluded.decay_per_second, level = excluded.level, level_us = excluded.level_us",
                (name, slots, decay_per_second, level, now_us, now_us),
            )
            Office(rows, now_us).change(name)
        return before is None

    def remove(self, name: str) -> bool:
        with self._lasting() as connection:
            cursor = connection.execute("DELETE FROM concurrency_limit WHERE name = ?", (name,))
            Office(_Rows(connection), clock.now_us()).change(name)
        return cursor.rowcount > 0

    @contextmanager
    def _lasting(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction that is durable when the block has been left."""
        connections = Connections(self._folder, migrations())
        try:
            with connections.transaction() as connection:
                yield connection
        finally:
            connections.close()

    def requests(self, is_gone: IsGone) -> list[RequestRow]:
        with self._connections.reading() as connection:
            gone = set(over(_Rows(connection), clock.now_us(), is_gone))
            rows = connection.execute(
                f"SELECT request, name, occupy, lender, label, run, priority, asked_us, granted_us, {_PROCESS} "
                "FROM slot_claim JOIN slot_request ON slot_request.key = request JOIN concurrency_limit USING (name) "
                "LEFT JOIN process ON number = process ORDER BY name, is_waiting, granted_us, rank, request"
            ).fetchall()
        return [_request_row(row) for row in rows if row[0] not in gone]

    def exchange(self, process: int, wishes: Sequence[Asked | int]) -> Exchanged:
        answers = []
        with self._transaction() as rows:
            office = Office(rows, clock.now_us())
            for wish in wishes:
                if isinstance(wish, Asked):
                    answers.append(office.ask(wish, process))
                else:
                    office.end(wish)
        return Exchanged(answers, office.granted, office.due_us)

    def look(self, process: int, is_gone: IsGone) -> Seen:
        due_us = None
        if self._is_something_to_do(is_gone):
            with self._transaction() as rows:
                office = Office(rows, clock.now_us())
                office.sweep(is_gone)
                office.settle(Pool(name) for (name,) in rows._execute(_DECAYING).fetchall())
            due_us = office.due_us
        with self._connections.reading() as connection:
            found = connection.execute("SELECT key, granted_us FROM slot_request WHERE process = ?", (process,))
            mine = dict(found.fetchall())
        held = {key for key, granted_us in mine.items() if granted_us is not None}
        return Seen(held, mine.keys() - held, due_us)

    def _is_something_to_do(self, is_gone: IsGone) -> bool:
        with self._connections.reading() as connection:
            if connection.execute(f"{_DECAYING} LIMIT 1").fetchone() is not None:
                return True
            return bool(over(_Rows(connection), clock.now_us(), is_gone))

    def held(self, process: int) -> set[int]:
        with self._connections.reading() as connection:
            return {key for (key,) in connection.execute(_HELD, (process,)).fetchall()}

    def version(self) -> int:
        with self._connections.reading() as connection:
            version: int = connection.execute("PRAGMA data_version").fetchone()[0]
            return version

    def renew(self, process: int) -> set[int]:
        with self._transaction() as rows:
            rows._execute("UPDATE slot_request SET renewed_us = ? WHERE process = ?", (clock.now_us(), process))
            return {key for (key,) in rows._execute(_HELD, (process,)).fetchall()}

    def close(self) -> None:
        """Close the connections."""
        self._connections.close_behind(self._writing)


def _request_row(row: tuple[object, ...]) -> RequestRow:
    run = int.from_bytes(row[5], "big") if isinstance(row[5], bytes) else 0
    key, name, occupy, lender, label = row[:5]
    return RequestRow(key, name, occupy, lender, label, run, _identity(row[9:]), *row[6:9])  # type: ignore[arg-type]  # as the columns have them
