"""What is noted of flow runs whose process was lost, within a transaction that the caller began."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from prefect_core.history.owed import KEEPS_CRASHING, MOST_LOSSES
from prefect_core.history.requests import LOST
from prefect_core.history.sqlite.read import TREE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect_core.history.sqlite.driver import sqlite3

_THESE = "(SELECT value FROM json_each(?))"
_ROOTS = f"SELECT key FROM flow_run WHERE key IN {_THESE} AND parent_flow_run IS NULL AND state_type <> 'CANCELLING' ORDER BY key"
_KEPT = f"""{TREE} SELECT count(*) FROM call WHERE result IS NOT NULL
    AND run IN (SELECT task_run.key FROM task_run JOIN tree ON task_run.flow_run = tree.key)"""
_COUNT = """INSERT INTO loss (run, times, kept) VALUES (?, 1, ?) ON CONFLICT (run) DO UPDATE SET
    times = iif(excluded.kept > kept, 1, times + 1), kept = excluded.kept RETURNING times"""


def count_losses(connection: sqlite3.Connection, flow_runs: Sequence[int]) -> dict[int, int]:
    """Count that open flow runs lost their process, for the roots among them; returns those that do so again and again, with how often."""
    again: dict[int, int] = {}
    for (root,) in connection.execute(_ROOTS, (json.dumps(list(flow_runs)),)).fetchall():
        [kept] = connection.execute(_KEPT, (root,)).fetchone()
        [[times]] = connection.execute(_COUNT, (root, kept)).fetchall()
        if times >= MOST_LOSSES:
            again[root] = times
    return again


def forget_losses(connection: sqlite3.Connection, run: int) -> None:
    """Begin to count anew if a run that is to be run again ended in another way the last time."""
    connection.execute(
        "DELETE FROM loss WHERE run = ? AND NOT EXISTS "
        "(SELECT 1 FROM flow_run WHERE key = loss.run AND (state_message = ? OR state_name = ?))",
        (run, LOST, KEEPS_CRASHING),
    )


def owe_hooks(connection: sqlite3.Connection, flow_runs: Sequence[int]) -> None:
    """Note that nobody calls the hooks of the states in which these flow runs have just been ended."""
    connection.execute(
        "INSERT INTO owed (run, at_us, process) SELECT run, state_us, 0 FROM ending JOIN flow_run ON key = run "
        f"WHERE run IN {_THESE} AND instr(hooks, state_type) ON CONFLICT DO NOTHING",
        (json.dumps(list(flow_runs)),),
    )
