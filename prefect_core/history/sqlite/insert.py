"""Writes the rows of a batch with as few steps as it can.

Python lets go of its global lock for each statement and must wait for it afterwards, up to 5 ms while user code computes, so the rule is:
many rows per statement. Statements of a few fixed lengths stay prepared (to prepare one costs more than to run it); what is left of a
batch goes into the next longer one, filled up with rows of nulls that the statement leaves out. A task run is a single row
(`is_plain` in the schema) as long as it is plain (see `plain`), and what is the same for all of them stands in the statement: 11 values are
bound for one instead of 50, and a commit touches three pages less. `kept` is a view of the schema.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

from prefect_core.history.batch import (
    ATTEMPT,
    BEGUN,
    ENDED,
    FLOW_RUN,
    LOG,
    NOTED,
    PLAIN,
    STATE,
    TASK_RUN,
    UNBEGUN,
    Batch,
    Row,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect_core.history.sqlite.driver import sqlite3

_LENGTHS = (1, 8, 32, 128, 512, 2048)
_MOST_VALUES = 32_766
MISSING = "missing_rows_since_"
"""A row of `meta` of this name, with the moment (wall microseconds), tells of rows that could not be written."""
# A run's later rows change only what a run's course changes.
_COURSE = ("started_us", "ended_us", "run_count", "state_type", "state_name", "state_message", "state_us")
_CHANGING = {
    "flow_run": ("name", "tags", "runner", *_COURSE),
    "task_run": ("name", "tags", "inputs", "worker", *_COURSE),
    "attempt": ("ended_us", "state_type", "state_name", "worker"),
    **{table: NOTED[table][1:] for table in ("identity", "cache", "unheld", "ending")},
    "pause": NOTED["pause"][2:],
}
_KEYS = {
    "flow_run": "key",
    "task_run": "key",
    "attempt": "run, attempt",
    "identity": "run",
    "cache": "key",
    "unheld": "run",
    "ending": "run",
    "pause": "run, paused_us",
}

# By what a call is known, and what was kept of it, stand in one row.
_TABLES = {"identity": "call"}

_INSERT_PLAIN = f"""INSERT INTO task_run ({", ".join(TASK_RUN)}, is_plain)
SELECT column1, column2, column3, NULL, column4, column5, column6, NULL, NULL, column7, {{}}, 1
FROM (VALUES {{{{}}}}) WHERE column1 IS NOT NULL ON CONFLICT DO NOTHING"""
# Of plain task runs only what differs from one to the next is bound.
_PLAINLY = {
    "whole": _INSERT_PLAIN.format("column8, column9, column10, 1, 'COMPLETED', 'Completed', NULL, column10, column11"),
    "begun": _INSERT_PLAIN.format("column8, NULL, NULL, 0, 'PENDING', 'Pending', NULL, column8, ''"),
    "ended": """UPDATE task_run SET started_us = column2, ended_us = column3, run_count = 1, state_type = 'COMPLETED',
state_name = 'Completed', state_us = column3, worker = column4 FROM (VALUES {}) WHERE key = column1""",
    "unbegun": """UPDATE task_run SET ended_us = column5, state_type = column2, state_name = column3, state_message = column4,
state_us = column5 FROM (VALUES {}) WHERE key = column1""",
}


def unfold(connection: sqlite3.Connection, runs: Sequence[int]) -> None:
    """Give the states and the attempts of the plain ones among task runs rows of their own, in the transaction that the caller began."""
    # A trigger of the schema does it.
    unfolded = "UPDATE task_run SET is_plain = 0 WHERE is_plain AND key IN (SELECT value FROM json_each(?))"
    connection.execute(unfolded, (json.dumps(runs),))


def insert(connection: sqlite3.Connection, batch: Batch) -> None:
    """Write the rows of a batch within the transaction that the caller began."""
    _insert(connection, "flow_run", FLOW_RUN, batch.flow_runs)
    _insert(connection, "whole", PLAIN, batch.plain)
    _insert(connection, "begun", BEGUN, batch.begun)
    _insert(connection, "ended", ENDED, batch.ended)
    _insert(connection, "unbegun", UNBEGUN, batch.unbegun)
    _insert(connection, "task_run", TASK_RUN, batch.task_runs)
    _insert(connection, "attempt", ATTEMPT, batch.attempts)
    _insert(connection, "state", STATE, batch.states)
    _insert(connection, "log", LOG, batch.logs)
    for table, columns in NOTED.items():
        _insert(connection, table, columns, batch.of_results.get(table, []))
    if batch.incomplete is not None:
        since_us, rows = batch.incomplete
        connection.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (f"{MISSING}{since_us}", str(rows)),
        )


def _insert(connection: sqlite3.Connection, table: str, columns: tuple[str, ...], rows: list[Row]) -> None:
    lengths = [length for length in _LENGTHS if length * len(columns) <= _MOST_VALUES]
    for begin in range(0, len(rows), lengths[-1]):
        chunk = rows[begin : begin + lengths[-1]]
        length = next(length for length in lengths if length >= len(chunk))
        values = list(chain.from_iterable(chunk))
        values += [None] * (len(columns) * (length - len(chunk)))
        connection.execute(_statement(table, columns, length), values)


@cache
def _statement(table: str, columns: tuple[str, ...], length: int) -> str:
    row = f"({', '.join('?' * len(columns))})"
    values = ", ".join([row] * length)
    if table in _PLAINLY:
        return _PLAINLY[table].format(values)
    rows = f"SELECT * FROM (VALUES {values}) WHERE column1 IS NOT NULL"
    text = f"INSERT INTO {_TABLES.get(table, table)} ({', '.join(columns)}) {rows}"
    if table == "kept":
        return text
    if table in _CHANGING:
        changes = ", ".join(f"{name} = excluded.{name}" for name in _CHANGING[table])
        if table == "task_run":
            # What comes now has rows of its own, and so must what was before (see `unfold`).
            changes += ", is_plain = 0"
        elif table == "flow_run":
            # Of a run that was let go, the recorder no longer knows the parameters.
            changes += ", parameters = coalesce(nullif(excluded.parameters, '{}'), parameters)"
        return f"{text} ON CONFLICT ({_KEYS[table]}) DO UPDATE SET {changes}"
    return f"{text} ON CONFLICT DO NOTHING"
