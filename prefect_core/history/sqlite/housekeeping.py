"""Letting go of stored results in the SQLite history. The rules on what goes with what are triggers in its schema."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from prefect_core import clock
from prefect_core.history.housekeeping import ResultStats
from prefect_core.history.sqlite import closing, reopen
from prefect_core.history.sqlite.connection import Connections
from prefect_core.history.sqlite.read import marks
from prefect_core.history.sqlite.stored import RESULTS_OF_TREE
from prefect_core.history.stored import DoomedRow, Holders, ReopeningRow
from prefect_core.history.verdicts import DROPPED

if TYPE_CHECKING:
    from prefect_core.history.housekeeping import IsGone
    from prefect_core.history.sqlite.driver import sqlite3

T = TypeVar("T")

_STEP = 2000
_REFERENCES = {
    "holder": "SELECT result, run FROM holder WHERE result IN ({})",
    "unheld": "SELECT result, run FROM unheld WHERE result IN ({})",
    "cache": "SELECT result, key FROM cache WHERE result IN ({})",
}


class SqliteHousekeeping:
    """The part of `SqliteStore` that is a `ResultsHousekeeping`."""

    _connections: Connections

    def reopenings(self, run: int) -> list[ReopeningRow]:
        sql = "SELECT run, at_us, attempt, process, asked_by FROM reopened WHERE run = ? ORDER BY at_us"
        with self._connections.reading() as connection:
            return [ReopeningRow(*row) for row in connection.execute(sql, (run,))]

    def check_runnable(self, run: int, is_gone: IsGone) -> None:
        with self._connections.reading() as connection:
            reopen.check(connection, run, is_gone)

    def holders(self, results: Sequence[int]) -> dict[int, Holders]:
        found: dict[tuple[str, int], list[Any]] = {}
        with self._connections.reading() as connection:
            for step in _steps(results):
                for table, sql in _REFERENCES.items():
                    for result, holder in connection.execute(sql.format(marks(step)), step):
                        found.setdefault((table, result), []).append(holder)
        return {key: Holders(*(tuple(sorted(found.get((table, key), ()))) for table in _REFERENCES)) for key in results}

    def results_in_use(self, is_gone: IsGone) -> set[int]:
        with self._connections.reading() as connection:
            return _in_use(connection, is_gone)

    def drop_results(self, results: Sequence[int], reason: str, is_gone: IsGone) -> list[int]:
        gone: list[int] = []
        for step in _steps(results):
            with self._connections.transaction(3 * len(step)) as connection:
                in_use = _in_use(connection, is_gone)
                gone += _drop(connection, [key for key in step if key not in in_use], reason)
            self._connections.checkpoint()
        return gone

    def unreferenced_results(self, before_us: int) -> list[int]:
        sql = """SELECT key FROM result WHERE created_us < ? AND NOT EXISTS (SELECT 1 FROM reference WHERE result = result.key)
            ORDER BY key"""
        with self._connections.reading() as connection:
            return [row[0] for row in connection.execute(sql, (before_us,))]

    def doomed(self, most: int, besides: Collection[str] = ()) -> list[DoomedRow]:
        others = f"WHERE storage NOT IN ({marks([*besides])})"
        sql = f"SELECT storage, object, written_us FROM doomed {others} ORDER BY storage, object LIMIT ?"
        with self._connections.reading() as connection:
            return [DoomedRow(*row) for row in connection.execute(sql, (*besides, most))]

    def forget_doomed(self, objects: Sequence[DoomedRow]) -> None:
        with self._connections.transaction(len(objects)) as connection:
            # Not one that was doomed anew meanwhile.
            connection.executemany("DELETE FROM doomed WHERE storage = ? AND object = ? AND written_us = ?", objects)
        self._connections.checkpoint()

    def named_objects(self, storage: str, objects: Sequence[str]) -> set[str]:
        found: set[str] = set()
        with self._connections.reading() as connection:
            for step in _steps(objects):
                sql = f"SELECT object FROM result WHERE storage = ? AND object IN ({marks(step)})"
                found.update(row[0] for row in connection.execute(sql, (storage, *step)))
        return found

    def result_storages(self) -> list[str]:
        sql = "SELECT storage FROM result WHERE storage IS NOT NULL UNION SELECT storage FROM doomed ORDER BY 1"
        with self._connections.reading() as connection:
            return [row[0] for row in connection.execute(sql)]

    def result_stats(self) -> ResultStats:
        sql = """SELECT count(*), coalesce(sum(size), 0), coalesce(sum(CASE WHEN storage IS NULL THEN size END), 0),
            (SELECT count(*) FROM doomed) FROM result"""
        with self._connections.reading() as connection:
            return ResultStats(*connection.execute(sql).fetchone())


def _steps(values: Sequence[T]) -> list[list[T]]:
    return [list(values[begin : begin + _STEP]) for begin in range(0, len(values), _STEP)]


def _in_use(connection: sqlite3.Connection, is_gone: IsGone) -> set[int]:
    sql = f"SELECT key FROM flow_run WHERE parent_flow_run IS NULL AND {closing.OPEN}"
    roots = [row[0] for row in connection.execute(sql)]
    found: set[int] = set()
    for root in roots:
        owner = reopen.owner(connection, root)
        if owner is None or is_gone(owner) is not True:
            found.update(row[0] for row in connection.execute(RESULTS_OF_TREE, (root,)))
    return found


def _drop(connection: sqlite3.Connection, results: list[int], reason: str) -> list[int]:
    these, at_us = marks(results), clock.now_us()
    found = [row[0] for row in connection.execute(f"SELECT key FROM result WHERE key IN ({these})", results)]
    for table, later in (("holder", 0), ("unheld", 1)):
        connection.execute(
            f"INSERT INTO verdict SELECT run, ?, ?, ? FROM {table} WHERE result IN ({these}) ON CONFLICT DO NOTHING",
            (at_us + later, DROPPED, reason, *results),
        )
    connection.execute(f"UPDATE unheld SET result = NULL WHERE result IN ({these})", results)
    connection.execute(f"DELETE FROM cache WHERE result IN ({these})", results)
    runs = f"SELECT run FROM holder WHERE result IN ({these})"
    connection.execute(f"UPDATE call SET result = NULL, is_shared = FALSE WHERE run IN ({runs})", results)
    # The last reference took its result along; these are what nothing referred to.
    connection.execute(f"DELETE FROM result WHERE key IN ({these})", results)
    return found
