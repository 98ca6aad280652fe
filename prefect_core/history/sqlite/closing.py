"""Ending the runs that a dead process left open, within a transaction that the caller began.

A run belongs to the process in its key; all runs in a root flow run that was let run again belong to the process that was let.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from prefect_core import clock
from prefect_core.history.owed import KEEPS_CRASHING, left_alone_message
from prefect_core.history.requests import LOST, OVER
from prefect_core.history.sqlite import lost, read
from prefect_core.history.sqlite.insert import unfold
from prefect_core.state_kinds import FINAL, PAUSED, StateType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect_core.history.sqlite.driver import sqlite3

OPEN = f"state_type NOT IN ({', '.join(repr(kind.value) for kind in sorted(FINAL))}) AND state_name <> 'NotReady'"
_UNPAUSED = f"{OPEN} AND state_type <> '{PAUSED.value}'"
_UNSUSPENDED = f"""NOT (state_type = '{PAUSED.value}' AND EXISTS (
    SELECT 1 FROM pause WHERE run = flow_run.key AND is_suspended AND resumed_us IS NULL AND NOT is_forgotten))"""
"""A suspended run waits for a resume, and for no process."""
_PROCESS = "SELECT process FROM reopened WHERE run = ? ORDER BY at_us DESC LIMIT 1"
_THESE = "(SELECT value FROM json_each(:keys))"


class Move(NamedTuple):
    """A state to enter, not before this moment (wall microseconds)."""

    type: str
    name: str
    message: str | None
    at_us: int


class OpenRuns(NamedTuple):
    """Keys of runs that have not ended."""

    flow_runs: list[int]
    task_runs: list[int]


def owner(connection: sqlite3.Connection, run: int) -> int:
    """Return the number of the process that a run belongs to."""
    row = connection.execute("SELECT flow_run FROM task_run WHERE key = ?", (run,)).fetchone()
    flow_run = row[0] if row is not None else run
    reopened = None if flow_run is None else connection.execute(_PROCESS, (_root(connection, flow_run),)).fetchone()
    number: int = reopened[0] if reopened is not None else run >> 32
    return number


def _root(connection: sqlite3.Connection, flow_run: int) -> int:
    parent: int | None = flow_run
    while parent is not None:
        flow_run = parent
        row = connection.execute("SELECT parent_flow_run FROM flow_run WHERE key = ?", (flow_run,)).fetchone()
        parent = row[0] if row is not None else None
    return flow_run


def open_in_tree(connection: sqlite3.Connection, root: int, *, keeps_paused: bool = False) -> OpenRuns:
    """Return the open runs of a flow run and all flow runs in it."""
    condition = _UNPAUSED if keeps_paused else OPEN
    tree = [row[0] for row in connection.execute(f"{read.TREE} SELECT key FROM tree", (root,))]
    keys = {"keys": json.dumps(tree)}
    flow_runs = connection.execute(f"SELECT key FROM flow_run WHERE key IN {_THESE} AND {condition}", keys)
    task_runs = connection.execute(f"SELECT key FROM task_run WHERE flow_run IN {_THESE} AND {condition}", keys)
    return OpenRuns([row[0] for row in flow_runs], [row[0] for row in task_runs])


def open_of_process(connection: sqlite3.Connection, number: int, *, keeps_paused: bool) -> OpenRuns:
    """Return the open runs that belong to a process; those that are Paused only if it doesn't keep them."""
    latest = connection.execute("SELECT run, process, max(at_us) FROM reopened GROUP BY run").fetchall()
    reopened: dict[int, int] = {run: process for run, process, _ in latest}
    roots: dict[int, int] = {}

    def belongs(flow_run: int | None) -> bool:
        if flow_run is None or not reopened:
            return True
        if flow_run not in roots:
            roots[flow_run] = _root(connection, flow_run)
        return reopened.get(roots[flow_run], number) == number

    condition = _UNPAUSED if keeps_paused else OPEN
    its_keys = (number << 32, (number + 1 << 32) - 1)
    made: list[set[int]] = []
    for table, flow_run in (("flow_run", "key"), ("task_run", "flow_run")):
        waits = f" AND {_UNSUSPENDED}" if table == "flow_run" else ""
        sql = f"SELECT key, {flow_run} FROM {table} WHERE key BETWEEN ? AND ? AND {condition}{waits}"
        made.append({key for key, around in connection.execute(sql, its_keys).fetchall() if belongs(around)})
    for root, process in reopened.items():
        if process == number:
            for found, keys in zip(made, open_in_tree(connection, root, keeps_paused=keeps_paused), strict=True):
                found.update(keys)
            is_suspended = f"SELECT 1 FROM flow_run WHERE key = ? AND NOT ({_UNSUSPENDED})"
            if connection.execute(is_suspended, (root,)).fetchone() is not None:
                made[0].discard(root)
    return OpenRuns(*map(sorted, made))


def end_lost(
    connection: sqlite3.Connection, runs: OpenRuns, message: str = LOST, *, are_cancelled: bool = False
) -> None:
    """End open runs: Cancelled where that had been asked, or as the subflow run that one stands for, else Crashed.

    Their hooks are owed, and the loss of the process is counted for root flow runs.
    """
    at_us = clock.now_us()
    left: list[int] = []
    for task_run in runs.task_runs:
        end = _end_of_subflow(connection, task_run)
        if end is None:
            left.append(task_run)
        else:
            enter(connection, "task_run", task_run, end)
    again = {} if are_cancelled else lost.count_losses(connection, runs.flow_runs)
    for flow_run, times in again.items():
        enter(connection, "flow_run", flow_run, Move("CRASHED", KEEPS_CRASHING, left_alone_message(times), at_us))
    for table, keys in (("task_run", left), ("flow_run", [key for key in runs.flow_runs if key not in again])):
        values = {"keys": json.dumps(keys), "message": message, "now": at_us, "all": are_cancelled}
        for statement in _ENDS[table]:
            connection.execute(statement, values)
    lost.owe_hooks(connection, runs.flow_runs)


_KIND = "iif(:all OR state_type = 'CANCELLING', 'CANCELLED', 'CRASHED')"
_NAME = "iif(:all OR state_type = 'CANCELLING', 'Cancelled', 'Crashed')"
# Of task runs that are open and plain there is no attempt, and no row of a state: these go on to have none.
_END_PLAIN = f"""UPDATE task_run SET (state_type, state_name, state_message, state_us, ended_us) = (
    {_KIND}, {_NAME}, :message, max(:now, state_us + 1), max(:now, state_us + 1)) WHERE key IN {_THESE} AND is_plain"""


def _ends(table: str, condition: str = "") -> tuple[str, ...]:
    return (
        f"""INSERT INTO state (run, seq, attempt, type, name, message, timestamp_us)
            SELECT run, last + 1, attempt, {_KIND}, {_NAME}, :message, max(:now, timestamp_us + 1)
            FROM (SELECT run, max(seq) AS last, attempt, timestamp_us FROM state WHERE run IN {_THESE} GROUP BY run)
            JOIN {table} ON key = run""",
        f"""UPDATE {table} SET (state_type, state_name, state_message, state_us, ended_us) = (
            SELECT type, name, message, timestamp_us, timestamp_us FROM state WHERE run = key ORDER BY seq DESC LIMIT 1)
            WHERE key IN {_THESE} {condition}""",
        f"""UPDATE attempt SET (ended_us, state_type, state_name) = (
            SELECT ended_us, state_type, state_name FROM {table} WHERE key = run) WHERE run IN {_THESE} AND ended_us IS NULL""",
    )


_ENDS = {"flow_run": _ends("flow_run"), "task_run": (_END_PLAIN, *_ends("task_run", "AND NOT is_plain"))}
"""Few statements for any number of runs: a flow may have had a hundred thousand of them under way."""


def _end_of_subflow(connection: sqlite3.Connection, task_run: int) -> Move | None:
    """Return how the subflow run ended that a task run stands for; what was kept of its value is kept of that too.

    The end of a subflow run may be the last that a killed process recorded; that of the task run would have come next.
    """
    ended = connection.execute(
        f"SELECT key, state_type, state_name, state_message, state_us FROM flow_run WHERE parent_task_run = ? AND NOT ({OPEN})",
        (task_run,),
    ).fetchone()
    if ended is None:
        return None
    subflow_run, *state = ended
    connection.execute(
        # A task run that stands for another run has no attempts of its own.
        "INSERT INTO kept SELECT ?, 0, result, inputs FROM kept WHERE run = ? "
        "AND attempt = (SELECT attempt FROM state WHERE run = kept.run ORDER BY seq DESC LIMIT 1)",
        (task_run, subflow_run),
    )
    return Move(*state)


def enter(connection: sqlite3.Connection, table: str, run: int, move: Move) -> None:
    """Let a run enter a state."""
    is_final = StateType(move.type) in FINAL
    if table == "task_run":
        unfold(connection, [run])
    last = connection.execute(
        "SELECT seq, attempt, timestamp_us FROM state WHERE run = ? ORDER BY seq DESC LIMIT 1", (run,)
    ).fetchone()
    seq, attempt, before_us = last
    at_us = max(move.at_us, before_us + 1)
    connection.execute(
        "INSERT INTO state VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
        (run, seq + 1, attempt, move.type, move.name, move.message, at_us),
    )
    connection.execute(
        f"UPDATE {table} SET state_type = ?, state_name = ?, state_message = ?, state_us = ?, ended_us = ? WHERE key = ?",
        (move.type, move.name, move.message, at_us, at_us if is_final else None, run),
    )
    if is_final:
        connection.execute(
            "UPDATE attempt SET ended_us = ?, state_type = ?, state_name = ? WHERE run = ? AND ended_us IS NULL",
            (at_us, move.type, move.name, run),
        )


def end_process(
    connection: sqlite3.Connection, number: int, *, keeps_paused: bool, cancelled: int | None = None
) -> list[int]:
    """End what a process left open, and answer what was asked of it; returns the runs that were ended.

    `cancelled` is a flow run that ends Cancelled, with those in it.
    """
    runs = open_of_process(connection, number, keeps_paused=keeps_paused)
    if cancelled is not None:
        end_lost(connection, open_in_tree(connection, cancelled), are_cancelled=True)
    end_lost(connection, open_of_process(connection, number, keeps_paused=keeps_paused))
    ended = sorted([*runs.flow_runs, *runs.task_runs])
    answer_for(connection, [*ended, number << 32], LOST)
    return ended


def answer_for(connection: sqlite3.Connection, runs: Sequence[int], reason: str) -> None:
    """Answer what was asked of runs whose owner will not."""
    connection.execute(
        f"UPDATE request SET answered_us = :now, answer = :answer WHERE answered_us IS NULL AND run IN {_THESE}",
        {"keys": json.dumps(list(runs)), "now": clock.now_us(), "answer": json.dumps({OVER: reason})},
    )
