"""Letting a process run a flow run again: who may, and what becomes of what the last process left open."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prefect_core import clock
from prefect_core.errors import NotRunnableAgain
from prefect_core.history.process import ProcessIdentity
from prefect_core.history.requests import ENDED
from prefect_core.history.sqlite import closing, read
from prefect_core.history.sqlite.connection import Connections
from prefect_core.history.sqlite.lost import forget_losses
from prefect_core.history.stored import Reopened
from prefect_core.state_kinds import COMPLETED, FINAL, PAUSED, StateType

if TYPE_CHECKING:
    from prefect_core.history.rows import FlowRunRow
    from prefect_core.history.sqlite.driver import sqlite3


def reopen(
    connections: Connections,
    run: int,
    process: int,
    asked_by: str,
    is_gone: Callable[[ProcessIdentity], bool | None],
    as_of_us: int | None = None,
) -> Reopened:
    """Give a flow run to `process` to run it again, if it is in the state that it entered at that moment. Raises `NotRunnableAgain`."""
    # Under the write lock all through, so that of two processes the second sees what the first did.
    with connections.transaction(100) as connection:
        check(connection, run, is_gone)
        _check_unmoved(connection, run, as_of_us)
        _end_last(connection, run, asked_by)
        forget_losses(connection, run)
        _forget_pauses(connection, run)
        again = closing.Move("PENDING", "Pending", f"Run again, asked for by {asked_by}.", clock.now_us())
        return give(connection, run, process, asked_by, again)


def give(connection: sqlite3.Connection, run: int, process: int, asked_by: str, move: closing.Move) -> Reopened:
    """Note that a flow run is that process's now, and move it to where that goes on from."""
    attempts: int = connection.execute(
        # One that was asked for and killed before its body began counts too.
        "SELECT max(coalesce((SELECT max(attempt) FROM attempt WHERE run = :run), 0), "
        "coalesce((SELECT max(attempt) FROM reopened WHERE run = :run), 0))",
        {"run": run},
    ).fetchone()[0]
    last_us: int = connection.execute("SELECT coalesce(max(at_us), 0) FROM reopened WHERE run = ?", (run,)).fetchone()[
        0
    ]
    at_us = max(move.at_us, last_us + 1)
    row = (run, at_us, attempts + 1, process, asked_by)
    connection.execute("INSERT INTO reopened (run, at_us, attempt, process, asked_by) VALUES (?, ?, ?, ?, ?)", row)
    # What was asked of an earlier attempt is not for this one.
    closing.answer_for(
        connection, [row[0] for row in connection.execute(f"{read.TREE} SELECT key FROM tree", (run,))], ENDED
    )
    closing.enter(connection, "flow_run", run, move._replace(at_us=at_us))
    return Reopened(read.flow_run(connection, run), attempts)


def _forget_pauses(connection: sqlite3.Connection, run: int) -> None:
    """Let the pauses of a run that failed or was cancelled fire once more; what was given to one that crashed stays given."""
    connection.execute(
        f"{read.TREE} UPDATE pause SET is_forgotten = 1 WHERE run IN (SELECT key FROM tree) "
        "AND (SELECT state_type FROM flow_run WHERE key = ?) IN ('FAILED', 'CANCELLED')",
        (run, run),
    )


def _check_unmoved(connection: sqlite3.Connection, run: int, as_of_us: int | None) -> None:
    row = read.flow_run(connection, run)
    if as_of_us is not None and row.state_us != as_of_us:
        raise NotRunnableAgain(f"{row.name} is {row.state_name} by now: somebody else has run it again.")


def _end_last(connection: sqlite3.Connection, run: int, taken_by: str) -> None:
    """End what is still open of a flow run, and what else its last process left if that has gone with this one under way."""
    is_open = connection.execute(f"SELECT 1 FROM flow_run WHERE key = ? AND {closing.OPEN}", (run,)).fetchone()
    number = closing.owner(connection, run)
    if is_open is not None:
        taken = connection.execute(
            "UPDATE lease SET taken_by = ?, taken_us = ? WHERE process = ? AND taken_by IS NULL",
            (taken_by, clock.now_us(), number),
        )
        if taken.rowcount:
            closing.end_process(connection, number, keeps_paused=False)
    closing.end_lost(connection, closing.open_in_tree(connection, run))


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
        "SELECT host, boot_id, pid, pid_started, pid_namespace FROM process WHERE number = ?",
        (closing.owner(connection, run),),
    ).fetchone()
    return ProcessIdentity(*found) if found is not None else None
