"""What is to be done at the ends of flow runs, in the SQLite history."""

from __future__ import annotations

from prefect_core import clock
from prefect_core.history.owed import RESUME, OwedRow
from prefect_core.history.sqlite.connection import Connections
from prefect_core.history.sqlite.control import SqliteControl
from prefect_core.history.sqlite.read import TREE
from prefect_core.state_kinds import CRASHED

_RESUMABLE = """SELECT key FROM ending JOIN flow_run ON key = run
    WHERE on_crash = ? AND state_type = ? AND parent_flow_run IS NULL ORDER BY key"""
_NOBODYS = """NOT EXISTS (SELECT 1 FROM called WHERE (called.run, called.at_us) = (owed.run, owed.at_us))
    AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.process = owed.process AND taken_by IS NULL)"""


class SqliteEndings:
    """The part of `SqliteStore` that is an `Endings`."""

    _connections: Connections
    _control: SqliteControl

    def resumable(self) -> list[int]:
        with self._connections.reading() as connection:
            return [row[0] for row in connection.execute(_RESUMABLE, (RESUME, CRASHED.value))]

    def owed(self, flow_run: int | None = None) -> list[OwedRow]:
        tree, inside, values = (TREE, "run IN tree AND", (flow_run,)) if flow_run is not None else ("", "", ())
        sql = f"{tree} SELECT run, at_us FROM owed WHERE {inside} {_NOBODYS} ORDER BY at_us, run"
        with self._connections.reading() as connection:
            return [OwedRow(*row) for row in connection.execute(sql, values)]

    def claim_owed(self, owed: OwedRow, called_by: str) -> bool:
        with self._control.writing() as connection:
            cursor = connection.execute(
                "INSERT INTO called (run, at_us, called_by, called_us) "
                f"SELECT run, at_us, ?, ? FROM owed WHERE run = ? AND at_us = ? AND {_NOBODYS}",
                (called_by, clock.now_us(), *owed),
            )
            return cursor.rowcount > 0
