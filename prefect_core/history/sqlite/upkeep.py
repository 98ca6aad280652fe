"""Looking after a SQLite history: deleting what is old, copying, measuring and checking it.

Deleting goes in steps of some thousand rows, each a transaction of its own, from the leaves up: writers get their turn in between, and
one that is interrupted leaves a smaller history without loose ends.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_core.errors import HistoryError
from prefect_core.history.batch import OF_ENDS
from prefect_core.history.sqlite import driver
from prefect_core.history.sqlite.connection import Connections
from prefect_core.history.sqlite.insert import MISSING
from prefect_core.history.sqlite.migrate import version_of
from prefect_core.history.sqlite.read import TREE, marks
from prefect_core.history.store import HistoryStats

if TYPE_CHECKING:
    from prefect_core.history.sqlite.driver import sqlite3

_STEP = 2000
_TABLES = ("process", "flow_run", "task_run", "attempt", "state", "log", "result")
_OF_RUNS = (
    "log",
    "state",
    "attempt",
    "call",
    "verdict",
    "reopened",
    "unheld",
    "cache",
    "request",
    "pause",
    "input",
    *OF_ENDS,
    "loss",
)
"""Tables whose rows go with their run; what they refer to goes with the last of them (see the triggers of the schema)."""
_FEW = 20
_LOSSES = f"SELECT name, value FROM meta WHERE name LIKE '{MISSING}%'"
_ORPHANS = {
    table: f"""SELECT count(*) FROM {table} WHERE run IS NOT NULL
        AND run NOT IN (SELECT key FROM flow_run) AND run NOT IN (SELECT key FROM task_run)"""
    for table in _OF_RUNS
}
# The value of a transaction outside of all runs.
_ORPHANS["cache"] += " AND run <> 0"
# What is asked of a process as a whole.
_ORPHANS["request"] += " AND run & 4294967295 <> 0"
_DANGLING = {
    table: f"SELECT count(*) FROM {table} WHERE result IS NOT NULL AND result NOT IN (SELECT key FROM result)"
    for table in ("call", "unheld", "cache", "borrowed")
}
_UNREFERENCED = "SELECT count(*) FROM result WHERE NOT EXISTS (SELECT 1 FROM reference WHERE result = result.key)"


def delete_flow_run(connections: Connections, key: int) -> int:
    """Delete a flow run with all runs in it; returns how many went."""
    gone = 0
    with connections.reading() as connection:
        tree = [row[0] for row in connection.execute(f"{TREE} SELECT key FROM tree", (key,))]
    # Children have greater keys than their parents and go first.
    inside = "SELECT key FROM task_run WHERE flow_run = ? ORDER BY key DESC LIMIT ?"
    for flow_run in reversed(tree):
        while keys := _some(connections, inside, (flow_run, _STEP)):
            gone += _delete(connections, "task_run", keys)
        gone += _delete(connections, "flow_run", [flow_run])
    return gone


def prune(connections: Connections, before_us: int, state_types: Sequence[str]) -> int:
    """Delete what ended before a moment; returns how many runs went."""
    ended = "ended_us < ?" + (f" AND state_type IN ({marks(state_types)})" if state_types else "")
    values = (before_us, *state_types)
    gone = 0
    with connections.reading() as connection:
        roots = [
            row[0]
            for row in connection.execute(f"SELECT key FROM flow_run WHERE parent_flow_run IS NULL AND {ended}", values)
        ]
    for root in roots:
        gone += delete_flow_run(connections, root)
    alone = f"""SELECT key FROM task_run WHERE flow_run IS NULL AND {ended}
        AND NOT EXISTS (SELECT 1 FROM flow_run WHERE parent_task_run = task_run.key) ORDER BY key DESC LIMIT ?"""
    while keys := _some(connections, alone, (*values, _STEP)):
        gone += _delete(connections, "task_run", keys)
    return gone


def _some(connections: Connections, sql: str, values: tuple[object, ...]) -> list[int]:
    with connections.reading() as connection:
        return [row[0] for row in connection.execute(sql, values)]


def _delete(connections: Connections, table: str, keys: list[int]) -> int:
    gone = 0
    for begin in range(0, len(keys), _STEP):
        step = keys[begin : begin + _STEP]
        with connections.transaction() as connection:
            for other in _OF_RUNS:
                if other == "cache":
                    # A result that other runs have as well stays, and is found by its cache key still.
                    connection.execute(
                        # No min(), for which SQLite would gather all holders of all results.
                        "UPDATE cache SET run = (SELECT run FROM holder WHERE result = cache.result ORDER BY run LIMIT 1) "
                        f"WHERE run IN ({marks(step)}) AND EXISTS (SELECT 1 FROM holder WHERE result = cache.result)",
                        step,
                    )
                connection.execute(f"DELETE FROM {other} WHERE run IN ({marks(step)})", step)
            gone += connection.execute(f"DELETE FROM {table} WHERE key IN ({marks(step)})", step).rowcount
        connections.checkpoint()
    return gone


def stats(connections: Connections) -> HistoryStats:
    """Return size and condition of the history."""
    with connections.reading() as connection:
        rows = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _TABLES}
        # These have their states and their attempts in themselves.
        plain = "SELECT count(*), count(started_us), count(ended_us) FROM task_run WHERE is_plain"
        created, started, ended = connection.execute(plain).fetchone()
        rows["state"] += created + started + ended
        rows["attempt"] += started
        losses = {int(name.removeprefix(MISSING)): int(rows) for name, rows in connection.execute(_LOSSES)}
        version = version_of(connection)
    return HistoryStats(
        rows=rows,
        bytes=connections.path.stat().st_size,
        wal_bytes=connections.wal_bytes(),
        schema_version=version,
        engine=f"SQLite {driver.VERSION}",
        incomplete_since_us=min(losses, default=None),
        missing_rows=sum(losses.values()),
    )


def backup(connections: Connections, path: Path) -> None:
    """Copy the history, as of one moment, to a new file."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise HistoryError(
            f"The history can't be copied to {path}: {error.strerror}. Name a new file in a folder that is there."
        ) from error
    try:
        with connections.reading() as connection:
            copy = driver.connect(str(path))
            try:
                # All pages in one step: each step that finds the source changed by others would begin again.
                connection.backup(copy)
            finally:
                copy.close()
    except BaseException:
        for end in ("", "-wal", "-shm"):
            with suppress(OSError):
                Path(f"{path}{end}").unlink()
        raise


def check(connections: Connections) -> list[str]:
    """Look for damage; returns one sentence per problem."""
    with connections.reading() as connection:
        try:
            problems = _damage(connection)
            return problems or _loose_ends(connection)
        except driver.sqlite3.DatabaseError as error:
            return [f"Damaged: the file can't be read: {error}."]


def _damage(connection: sqlite3.Connection) -> list[str]:
    found = [row[0] for row in connection.execute(f"PRAGMA integrity_check({_FEW})")]
    return [] if found == ["ok"] else [f"Damaged: {line}." for line in found]


def _loose_ends(connection: sqlite3.Connection) -> list[str]:
    problems = [
        f"Row {key} of {table} names a row of {parent} that is missing."
        for table, key, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchmany(_FEW)
        if table not in _DANGLING
    ]
    for table, sql in _DANGLING.items():
        count = connection.execute(sql).fetchone()[0]
        if count:
            problems.append(f"{count} rows of {table} name a stored result that is missing.")
    count = connection.execute(_UNREFERENCED).fetchone()[0]
    if count:
        problems.append(f"{count} stored results belong to nothing; prefect-core results prune --orphans drops them.")
    for table, sql in _ORPHANS.items():
        count = connection.execute(sql).fetchone()[0]
        if count:
            problems.append(f"{count} rows of {table} belong to no run.")
    for table in ("flow_run", "task_run"):
        sql = f"SELECT count(*) FROM {table} WHERE NOT EXISTS (SELECT 1 FROM every_state WHERE run = {table}.key)"
        count = connection.execute(sql).fetchone()[0]
        if count:
            problems.append(f"{count} rows of {table} have no state.")
    return problems
