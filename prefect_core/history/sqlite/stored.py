"""The questions about stored results that are asked of the SQLite history."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

from prefect_core.history.batch import OF_RESULTS
from prefect_core.history.sqlite.read import TREE, marks
from prefect_core.history.stored import (
    CacheRow,
    EarlierCall,
    IdentityRow,
    KeptRow,
    ResultRow,
    UnheldRow,
    VerdictRow,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect_core.history.sqlite.driver import sqlite3

_IDENTITY = ", ".join(f"call.{column}" for column in OF_RESULTS["identity"])
_RESULT = ", ".join(f"result.{column}" for column in OF_RESULTS["result"])
_IN_TREE = "task_run.flow_run IN (SELECT key FROM tree)"
RESULTS_OF_TREE = f"""{TREE} SELECT result FROM kept WHERE run IN (SELECT key FROM tree)
    UNION SELECT result FROM task_run JOIN kept ON run = task_run.key WHERE {_IN_TREE}
    UNION SELECT result FROM unheld WHERE run IN (SELECT key FROM tree) AND result IS NOT NULL"""
"""The results that a flow run, and all runs in it, refer to."""


def identity(connection: sqlite3.Connection, run: int) -> IdentityRow | None:
    """Return by what a run is known again."""
    row = connection.execute(f"SELECT {_IDENTITY} FROM call WHERE run = ? AND site IS NOT NULL", (run,)).fetchone()
    return IdentityRow(*row) if row is not None else None


def kept(connection: sqlite3.Connection, run: int) -> KeptRow | None:
    """Return what was kept of a run's value."""
    row = connection.execute(
        f"SELECT kept.attempt, kept.inputs, {_RESULT} FROM kept JOIN result ON result.key = kept.result WHERE kept.run = ?",
        (run,),
    ).fetchone()
    if row is None:
        return None
    attempt, inputs, *result = row
    return KeptRow(run, attempt, ResultRow(*result), tuple(json.loads(inputs)))


def verdicts(connection: sqlite3.Connection, run: int) -> list[VerdictRow]:
    """Return what was decided about a run's earlier results."""
    columns = ", ".join(OF_RESULTS["verdict"])
    rows = connection.execute(f"SELECT {columns} FROM verdict WHERE run = ? ORDER BY at_us", (run,))
    return [VerdictRow(*row) for row in rows]


def calls_at(connection: sqlite3.Connection, root: int, site: bytes, before_us: int) -> list[IdentityRow]:
    """Return by what the runs of one task in one parent are known."""
    # In the whole tree, since a subflow that nothing is stored of is another flow run in each attempt of its parent.
    rows = connection.execute(
        f"{TREE} SELECT {_IDENTITY} FROM call JOIN task_run ON task_run.key = call.run "
        f"WHERE {_IN_TREE} AND site = ? AND created_us < ? ORDER BY call.run",
        (root, site, before_us),
    )
    return [IdentityRow(*row) for row in rows]


def known_identities(connection: sqlite3.Connection, root: int) -> dict[bytes, int]:
    """Return the task runs in a flow run by identity; of several with the same, the last one that completed, or else the last one."""
    rows = connection.execute(
        f"{TREE} SELECT identity, call.run FROM call JOIN task_run ON task_run.key = call.run "
        f"WHERE {_IN_TREE} AND identity IS NOT NULL ORDER BY state_type = 'COMPLETED', call.run",
        (root,),
    )
    return dict(rows.fetchall())


_EARLIER = f"""SELECT call.identity, call.code, task_run.key, task_run.uid, task_name, task_key, idx, name, tags, task_run.inputs,
        task_run.created_us, started_us, ended_us, run_count, state_type, state_name, state_message, state_us, worker,
        coalesce((SELECT max(attempt) FROM attempt WHERE attempt.run = task_run.key), task_run.is_plain * run_count),
        call.attempt, call.inputs,
        {", ".join(f"result.{column}" for column in OF_RESULTS["result"][: -len(("run", "created_us"))])}
    FROM call JOIN task_run ON task_run.key = call.run LEFT JOIN result ON result.key = call.result
    WHERE call.run IN"""


_earlier_call = partial(tuple.__new__, EarlierCall)
"""What `_make` does without counting: there may be a hundred thousand rows."""


def known_calls(connection: sqlite3.Connection, runs: Sequence[int]) -> list[EarlierCall]:
    """Return task runs that have an identity."""
    return list(map(_earlier_call, connection.execute(f"{_EARLIER} ({marks(runs)})", runs)))


def highest_indexes(connection: sqlite3.Connection, root: int) -> dict[tuple[int, str], int]:
    """Return the greatest number of a task run by flow run and task name."""
    rows = connection.execute(
        f"{TREE} SELECT flow_run, task_name, max(idx) FROM task_run WHERE {_IN_TREE} GROUP BY flow_run, task_name",
        (root,),
    )
    return {(flow_run, name): index for flow_run, name, index in rows}


def unheld(connection: sqlite3.Connection, run: int) -> UnheldRow | None:
    """Return which parameters of a flow run JSON can't hold."""
    row = connection.execute("SELECT names, result FROM unheld WHERE run = ?", (run,)).fetchone()
    return UnheldRow(run, tuple(json.loads(row[0])), row[1]) if row is not None else None


def result(connection: sqlite3.Connection, key: int) -> ResultRow | None:
    """Return a stored result."""
    row = connection.execute(f"SELECT {_RESULT} FROM result WHERE key = ?", (key,)).fetchone()
    return ResultRow(*row) if row is not None else None


def result_at(connection: sqlite3.Connection, storage: str, key: str, sha256: bytes) -> int | None:
    """Return the number of the result whose bytes are this object of a storage."""
    row = connection.execute(
        "SELECT key FROM result WHERE object = ? AND storage = ? AND sha256 = ? ORDER BY key LIMIT 1",
        (key, storage, sha256),
    ).fetchone()
    return row[0] if row is not None else None


def cached(connection: sqlite3.Connection, key: str) -> CacheRow | None:
    """Return the result of a cache key."""
    row = connection.execute(
        f"SELECT cache.run, cache.expires_us, cache.created_us, {_RESULT} FROM cache JOIN result ON result.key = cache.result "
        "WHERE cache.key = ?",
        (key,),
    ).fetchone()
    if row is None:
        return None
    run, expires_us, created_us, *result = row
    return CacheRow(key, ResultRow(*result), run, expires_us, created_us)


def results(connection: sqlite3.Connection, flow_run: int | None, limit: int | None) -> list[ResultRow]:
    """Return stored results without their values, newest first."""
    columns = _RESULT.replace("result.value", "NULL")
    where = "" if flow_run is None else f"WHERE result.key IN ({RESULTS_OF_TREE})"
    values = [] if flow_run is None else [flow_run]
    sql = f"SELECT {columns} FROM result {where} ORDER BY created_us DESC, key DESC LIMIT ?"
    return [ResultRow(*row) for row in connection.execute(sql, (*values, -1 if limit is None else limit))]
