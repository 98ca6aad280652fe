"""Letting a process run a flow run again: who may, and what becomes of what the last process left open."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from prefect_core import clock
from prefect_core.errors import NotRunnableAgain
from prefect_core.history.process import ProcessIdentity
from prefect_core.history.sqlite import read
from prefect_core.history.sqlite.connection import Connections
from prefect_core.history.stored import Reopened
from prefect_core.state_kinds import COMPLETED, FINAL, PAUSED, StateType

if TYPE_CHECKING:
    from prefect_core.history.rows import FlowRunRow
    from prefect_core.history.sqlite.driver import sqlite3

LOST = "The process that ran this ended without a word."
OPEN = f"state_type NOT IN ({', '.join(repr(kind.value) for kind in sorted(FINAL))}) AND state_name <> 'NotReady'"


def reopen(
    connections: Connections,
    run: int,
    process: int,
    asked_by: str,
    is_gone: Callable[[ProcessIdentity], bool | None],
) -> Reopened:
    """Give a flow run to `process` to run it again. Raises `NotRunnableAgain`."""
    # Under the write lock all through, so that of two processes the second sees what the first did.
    with connections.transaction(100) as connection:
        check(connection, run, is_gone)
        _close(connection, run)
        attempts: int = connection.execute(
            # One that was asked for and killed before its body began counts too.
            "SELECT max(coalesce((SELECT max(attempt) FROM attempt WHERE run = :run), 0), "
            "coalesce((SELECT max(attempt) FROM reopened WHERE run = :run), 0))",
            {"run": run},
        ).fetchone()[0]
        last_us: int = connection.execute(
            "SELECT coalesce(max(at_us), 0) FROM reopened WHERE run = ?", (run,)
        ).fetchone()[0]
        at_us = max(clock.now_us(), last_us + 1)
        row = (run, at_us, attempts + 1, process, asked_by)
        connection.execute("INSERT INTO reopened (run, at_us, attempt, process, asked_by) VALUES (?, ?, ?, ?, ?)", row)
        _enter(connection, "flow_run", run, _Move("PENDING", "Pending", f"Run again, asked for by {asked_by}.", at_us))
        return Reopened(read.flow_run(connection, run), attempts)


def check(connection: sqlite3.Connection, run: int, is_gone: Callable[[ProcessIdentity], bool | None]) -> None:
    """Raise `NotRunnableAgain` if a flow run can't be run again now."""
    row = read.flow_run(connection, run)
    kind = StateType(row.state_type)
    if row.parent_flow_run is not None:
        root = _root(connection, row)
        raise NotRunnableAgain(
            f"{row.name} was called in the flow run {root.name} ({root.id}). Run that one again; what completed in it is taken over."
        )
    if kind is PAUSED:
        raise NotRunnableAgain(f"{row.name} is paused; resume it instead.")
    if kind is COMPLETED:
        raise NotRunnableAgain(f"{row.name} completed; there is nothing to run again.")
    if kind not in FINAL:
        _check_gone(connection, row, is_gone)


def _root(connection: sqlite3.Connection, row: FlowRunRow) -> FlowRunRow:
    while row.parent_flow_run is not None:
        row = read.flow_run(connection, row.parent_flow_run)
    return row


def _check_gone(
    connection: sqlite3.Connection, row: FlowRunRow, is_gone: Callable[[ProcessIdentity], bool | None]
) -> None:
    identity = owner(connection, row.key)
    gone = is_gone(identity) if identity is not None else None
    if identity is not None and gone is False:
        raise NotRunnableAgain(
            f"{row.name} is {row.state_name}, and its process {identity.pid} on {identity.host} still lives. Wait for it, or end it first."
        )
    if gone is None:
        place = f"process {identity.pid} on {identity.host}" if identity is not None else "a process that is not known"
        raise NotRunnableAgain(
            f"{row.name} is {row.state_name} in {place}, and from here it can't be known whether that has ended. "
            "If you know that it has, run it again with --force."
        )


def owner(connection: sqlite3.Connection, run: int) -> ProcessIdentity | None:
    """Return the process that runs a root flow run, or ran it last."""
    found = connection.execute(
        "SELECT host, boot_id, pid, pid_started FROM process WHERE number = "
        "coalesce((SELECT process FROM reopened WHERE run = :run ORDER BY at_us DESC LIMIT 1), :run >> 32)",
        {"run": run},
    ).fetchone()
    return ProcessIdentity(*found) if found is not None else None


class _Move(NamedTuple):
    """A state to enter, not before this moment (wall microseconds)."""

    type: str
    name: str
    message: str | None
    at_us: int


def _close(connection: sqlite3.Connection, run: int) -> None:
    """End all runs of a flow run that are still open: Crashed, when that was found, or as the subflow run that one stands for."""
    lost = _Move("CRASHED", "Crashed", LOST, clock.now_us())
    tree = f"{read.TREE} SELECT key FROM tree"
    flow_runs = [row[0] for row in connection.execute(tree, (run,))]
    for flow_run in flow_runs:
        inside = connection.execute(f"SELECT key FROM task_run WHERE flow_run = ? AND {OPEN}", (flow_run,))
        for (task_run,) in inside.fetchall():
            _enter(connection, "task_run", task_run, _end_of_subflow(connection, task_run) or lost)
        if connection.execute(f"SELECT 1 FROM flow_run WHERE key = ? AND {OPEN}", (flow_run,)).fetchone():
            _enter(connection, "flow_run", flow_run, lost)


def _end_of_subflow(connection: sqlite3.Connection, task_run: int) -> _Move | None:
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
    return _Move(*state)


def _enter(connection: sqlite3.Connection, table: str, run: int, move: _Move) -> None:
    is_final = StateType(move.type) in FINAL
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
