"""The questions that readers ask of the SQLite history, one function each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from prefect_core.history.batch import ATTEMPT, FLOW_RUN, LOG, STATE, TASK_RUN
from prefect_core.history.rows import (
    AttemptRow,
    FlowRow,
    FlowRunRow,
    LogRow,
    StateRow,
    TaskRunRow,
    flow_run_row,
    task_run_row,
)
from prefect_core.history.store import RunFilter, id_bounds, not_found

if TYPE_CHECKING:
    from prefect_core.history.sqlite.driver import sqlite3

RunRow = TypeVar("RunRow", FlowRunRow, TaskRunRow)

TREE = """WITH RECURSIVE tree (key) AS (
    VALUES (?) UNION SELECT flow_run.key FROM flow_run JOIN tree ON flow_run.parent_flow_run = tree.key)"""
"""The keys of a flow run and of all flow runs below it."""
_FLOW_RUNS = f"SELECT {', '.join(FLOW_RUN)} FROM flow_run"
_TASK_RUNS = f"""SELECT {", ".join(TASK_RUN)},
    (SELECT child.key FROM flow_run AS child WHERE child.parent_task_run = task_run.key LIMIT 1) FROM task_run"""


def flow_runs(connection: sqlite3.Connection, wanted: RunFilter) -> list[FlowRunRow]:
    """Return flow runs, newest first."""
    where, values = _conditions(wanted, "flow_name", "parent_flow_run")
    if wanted.root_only:
        where.append("parent_flow_run IS NULL")
    return [flow_run_row(row) for row in _newest_first(connection, _FLOW_RUNS, where, values, wanted)]


def task_runs(connection: sqlite3.Connection, wanted: RunFilter) -> list[TaskRunRow]:
    """Return task runs, newest first."""
    where, values = _conditions(wanted, "task_name", "flow_run")
    return [_task_run(row) for row in _newest_first(connection, _TASK_RUNS, where, values, wanted)]


def flow_run(connection: sqlite3.Connection, name: str | int) -> FlowRunRow:
    """Find one flow run."""
    return _one(connection, name, "flow run", (_FLOW_RUNS, flow_run_row, "name = ?", (name,)))


def task_run(connection: sqlite3.Connection, name: str | int) -> TaskRunRow:
    """Find one task run."""
    task_name, _, index = str(name).rpartition("-")
    number = int(index) if index.isdecimal() else -1
    by_name = "(name = ? OR (name IS NULL AND task_name = ? AND idx = ?))"
    return _one(connection, name, "task run", (_TASK_RUNS, _task_run, by_name, (name, task_name, number)))


def states(connection: sqlite3.Connection, key: int) -> list[StateRow]:
    """Return the states of a run, first to last."""
    rows = connection.execute(f"SELECT {', '.join(STATE)} FROM every_state WHERE run = ? ORDER BY seq", (key,))
    return [StateRow(*row) for row in rows]


def attempts(connection: sqlite3.Connection, key: int) -> list[AttemptRow]:
    """Return the attempts of a run, first to last."""
    rows = connection.execute(f"SELECT {', '.join(ATTEMPT)} FROM every_attempt WHERE run = ? ORDER BY attempt", (key,))
    return [AttemptRow(*row) for row in rows]


def children(connection: sqlite3.Connection, key: int) -> list[FlowRunRow]:
    """Return the flow runs called in a flow run, first to last."""
    return [
        flow_run_row(row) for row in connection.execute(f"{_FLOW_RUNS} WHERE parent_flow_run = ? ORDER BY uid", (key,))
    ]


def logs(connection: sqlite3.Connection, key: int | None, *, tree: bool, level: int, limit: int | None) -> list[LogRow]:
    """Return log records in order of time."""
    begin, where = "", "run IS ?"
    if tree:
        begin = TREE
        where = (
            "run IN (SELECT key FROM tree UNION ALL SELECT key FROM task_run WHERE flow_run IN (SELECT key FROM tree))"
        )
    sql = f"{begin} SELECT {', '.join(LOG)} FROM log WHERE {where} AND level >= ? ORDER BY timestamp_us, key LIMIT ?"
    return [LogRow(*row) for row in connection.execute(sql, (key, level, -1 if limit is None else limit))]


def counts_by_state(connection: sqlite3.Connection, flow_run: int) -> dict[str, int]:
    """Count the task runs of a flow run by the name of their state."""
    rows = connection.execute(
        "SELECT state_name, count(*) FROM task_run WHERE flow_run = ? GROUP BY state_name", (flow_run,)
    )
    return dict(rows.fetchall())


def counts_by_worker(connection: sqlite3.Connection, flow_run: int) -> dict[str, int]:
    """Count the task runs of a flow run by the worker of their last attempt, those with most first."""
    rows = connection.execute(
        "SELECT worker, count(*) FROM task_run WHERE flow_run = ? AND worker <> '' GROUP BY worker ORDER BY count(*) DESC, worker",
        (flow_run,),
    )
    return dict(rows.fetchall())


def flows(connection: sqlite3.Connection) -> list[FlowRow]:
    """Return the flows that ran, by name."""
    # Beside max(), SQLite takes the other columns from the row that holds the maximum.
    rows = connection.execute(
        "SELECT flow_name, count(*), name, created_us, state_name, state_type, max(uid) FROM flow_run GROUP BY flow_name ORDER BY flow_name"
    )
    return [FlowRow(*row[:6]) for row in rows]


def _task_run(row: tuple[Any, ...]) -> TaskRunRow:
    return task_run_row(row[:-1], row[-1])


def _conditions(wanted: RunFilter, name_column: str, flow_run_column: str) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    values: list[Any] = []
    for condition, value in (
        (f"{name_column} = ?", wanted.name),
        (f"{flow_run_column} = ?", wanted.flow_run),
        ("created_us >= ?", wanted.since_us),
        ("created_us < ?", wanted.until_us),
    ):
        if value is not None:
            where.append(condition)
            values.append(value)
    for column, names in (("state_type", wanted.state_types), ("state_name", wanted.state_names)):
        if names:
            where.append(f"{column} IN ({marks(names)})")
            values.extend(names)
    for tag in wanted.tags:
        where.append("EXISTS (SELECT 1 FROM json_each(tags) WHERE json_each.value = ?)")
        values.append(tag)
    return where, values


def marks(values: Sequence[object]) -> str:
    """Return as many question marks as there are values."""
    return ", ".join("?" * len(values))


def _newest_first(
    connection: sqlite3.Connection, select: str, where: list[str], values: list[Any], wanted: RunFilter
) -> sqlite3.Cursor:
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    values += [-1 if wanted.limit is None else wanted.limit, wanted.offset]
    return connection.execute(f"{select}{condition} ORDER BY uid DESC LIMIT ? OFFSET ?", values)


def _one(
    connection: sqlite3.Connection,
    name: str | int,
    kind: str,
    by_name: tuple[str, Callable[[tuple[Any, ...]], RunRow], str, tuple[Any, ...]],
) -> RunRow:
    select, make, condition, values = by_name
    similar: list[RunRow] = []
    if isinstance(name, int):
        similar = [make(row) for row in connection.execute(f"{select} WHERE key = ?", (name,))]
    elif bounds := id_bounds(name):
        low, high = (bound.to_bytes(16, "big") for bound in bounds)
        similar = [
            make(row)
            for row in connection.execute(f"{select} WHERE uid BETWEEN ? AND ? ORDER BY uid DESC LIMIT 3", (low, high))
        ]
    if len(similar) == 1:
        return similar[0]
    row = None
    if isinstance(name, str):
        row = connection.execute(f"{select} WHERE {condition} ORDER BY uid DESC LIMIT 1", values).fetchone()
    if row is None:
        raise not_found(kind, name, [run.id for run in similar])
    return make(row)
