"""Writes the rows of a batch with as few steps as it can.

Python lets go of its global lock for each statement and must wait for it afterwards, up to 5 ms while user code computes, so the rule is:
many rows per statement. Statements of a few fixed lengths stay prepared (to prepare one costs more than to run it); what is left of a
batch goes into the next longer one, filled up with rows of nulls that the statement leaves out. Plain task runs (see `plain`) go
into views of this connection, whose triggers make all rows of each inside SQLite. One that is whole is a single row (`is_plain` in the
schema), also if it began in an earlier batch: 11 values are bound for a task run instead of 50, and a commit touches three pages less.
`kept` is a view of the schema.
"""

from __future__ import annotations

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
    Batch,
    Row,
)

if TYPE_CHECKING:
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

_BEGIN = f"""
INSERT INTO task_run ({", ".join(TASK_RUN)}) VALUES (
    new.key, new.uid, new.flow_run, NULL, new.task_name, new.task_key, new.idx, NULL, NULL, new.inputs,
    new.created_us, NULL, NULL, 0, 'PENDING', 'Pending', NULL, new.created_us, '') ON CONFLICT DO NOTHING;
INSERT INTO state ({", ".join(STATE)}) VALUES (
    new.key, 0, 0, 'PENDING', 'Pending', NULL, new.created_us, NULL) ON CONFLICT DO NOTHING;
"""
_WHOLE = f"""
INSERT INTO task_run ({", ".join(TASK_RUN)}, is_plain) VALUES (
    new.key, new.uid, new.flow_run, NULL, new.task_name, new.task_key, new.idx, NULL, NULL, new.inputs, new.created_us,
    new.started_us, new.ended_us, 1, 'COMPLETED', 'Completed', NULL, new.ended_us, new.worker, 1) ON CONFLICT DO NOTHING;
"""
_REST = """
UPDATE task_run SET
    started_us = new.started_us, ended_us = new.ended_us, run_count = 1, state_type = 'COMPLETED', state_name = 'Completed',
    state_us = new.ended_us, worker = new.worker, is_plain = 1
WHERE key = new.key;
DELETE FROM state WHERE run = new.key;
"""
_VIEWS = {
    "plain_task_run": (PLAIN, _WHOLE),
    "begun_task_run": (BEGUN, _BEGIN),
    "ended_task_run": (ENDED, _REST),
}


_UNFOLD = (
    f"INSERT INTO state ({', '.join(STATE)}) SELECT {', '.join(STATE)} FROM every_state WHERE run = ? ON CONFLICT DO NOTHING",
    f"INSERT INTO attempt ({', '.join(ATTEMPT)}) SELECT {', '.join(ATTEMPT)} FROM every_attempt WHERE run = ? ON CONFLICT DO NOTHING",
    "UPDATE task_run SET is_plain = 0 WHERE key = ?",
)


def unfold(connection: sqlite3.Connection, run: int) -> None:
    """Give the states and the attempt of a plain task run rows of their own, within the transaction that the caller began."""
    for statement in _UNFOLD:
        connection.execute(statement, (run,))


def prepare(connection: sqlite3.Connection) -> None:
    """Make what `insert` needs on a connection; nothing of it is seen in the file."""
    for name, (columns, body) in _VIEWS.items():
        connection.execute(f"CREATE TEMP VIEW {name} AS SELECT {', '.join(f'0 AS {column}' for column in columns)}")
        connection.execute(f"CREATE TEMP TRIGGER {name}_row INSTEAD OF INSERT ON {name} BEGIN {body} END")


def insert(connection: sqlite3.Connection, batch: Batch) -> None:
    """Write the rows of a batch within the transaction that the caller began."""
    _insert(connection, "flow_run", FLOW_RUN, batch.flow_runs)
    _insert(connection, "plain_task_run", PLAIN, batch.plain)
    _insert(connection, "begun_task_run", BEGUN, batch.begun)
    _insert(connection, "ended_task_run", ENDED, batch.ended)
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
    rows = f"SELECT * FROM (VALUES {', '.join([row] * length)}) WHERE column1 IS NOT NULL"
    text = f"INSERT INTO {_TABLES.get(table, table)} ({', '.join(columns)}) {rows}"
    if table == "kept" or table in _VIEWS:
        return text
    if table in _CHANGING:
        changes = ", ".join(f"{name} = excluded.{name}" for name in _CHANGING[table])
        if table == "flow_run":
            # Of a run that was let go, the recorder no longer knows the parameters.
            changes += ", parameters = coalesce(nullif(excluded.parameters, '{}'), parameters)"
        return f"{text} ON CONFLICT ({_KEYS[table]}) DO UPDATE SET {changes}"
    return f"{text} ON CONFLICT DO NOTHING"
