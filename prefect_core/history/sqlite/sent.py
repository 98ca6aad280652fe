"""Inputs in the SQLite history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_core.history.sent import AT_ONCE, SentInput
from prefect_core.history.sqlite.closing import OPEN
from prefect_core.history.sqlite.read import marks

if TYPE_CHECKING:
    from collections.abc import Collection

    from prefect_core.history.sqlite.driver import sqlite3

_COLUMNS = ", ".join(SentInput._fields)
_GIVEN = SentInput._fields[:-1]
_KEEP = f"""INSERT INTO input ({", ".join(_GIVEN)}) SELECT {marks(_GIVEN)}
    WHERE EXISTS (SELECT 1 FROM flow_run WHERE key = ? AND {OPEN})"""


def keep(connection: sqlite3.Connection, row: SentInput) -> bool:
    """Keep an input of a run that has not ended, within a transaction."""
    return connection.execute(_KEEP, (*row[:-1], row.run)).rowcount > 0


def inputs(connection: sqlite3.Connection, run: int, channels: Collection[str], after: int) -> list[SentInput]:
    """Return the first inputs of a run in some channels that came after one."""
    sql = f"SELECT {_COLUMNS} FROM input {_wanted(channels)} ORDER BY number LIMIT {AT_ONCE}"
    return [SentInput(*row) for row in connection.execute(sql, (run, *channels, after))]


def has_input(connection: sqlite3.Connection, run: int, channels: Collection[str], after: int) -> bool:
    """Tell whether there is one."""
    sql = f"SELECT 1 FROM input {_wanted(channels)} LIMIT 1"
    return connection.execute(sql, (run, *channels, after)).fetchone() is not None


def _wanted(channels: Collection[str]) -> str:
    return f"WHERE run = ? AND channel IN ({marks(tuple(channels))}) AND number > ?"
