"""Pauses in the SQLite history: reading them, ending those whose time is up, and letting a process run a suspended run again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prefect_core import clock
from prefect_core.crash_points import crash_points_around
from prefect_core.errors import FlowPauseTimeout, NotPausedError, NotRunnableAgain
from prefect_core.history.batch import OF_RESULTS
from prefect_core.history.pauses import NEVER_RESUMED, PauseRow
from prefect_core.history.process import ProcessIdentity
from prefect_core.history.requests import ENDED
from prefect_core.history.sqlite import closing, lost, read, reopen
from prefect_core.history.stored import Reopened
from prefect_core.state_kinds import FAILED, PAUSED, SCHEDULED

if TYPE_CHECKING:
    from prefect_core.history.sqlite.driver import sqlite3

_PAUSES = f"SELECT {', '.join(OF_RESULTS['pause'])} FROM pause"
_OPEN_PAUSE = "is_suspended AND resumed_us IS NULL AND NOT is_forgotten"
_EXPIRED = f"{_PAUSES} WHERE {_OPEN_PAUSE} AND until_us <= ? AND run IN (SELECT key FROM flow_run WHERE state_type = '{PAUSED.value}')"


def pauses(connection: sqlite3.Connection, run: int) -> list[PauseRow]:
    """Return the pauses of a flow run, first to last."""
    return [PauseRow(*row) for row in connection.execute(f"{_PAUSES} WHERE run = ? ORDER BY paused_us", (run,))]


def expired(connection: sqlite3.Connection, now_us: int) -> list[PauseRow]:
    """Return the suspended runs whose time is up."""
    return [PauseRow(*row) for row in connection.execute(_EXPIRED, (now_us,))]


def expire(connection: sqlite3.Connection, now_us: int) -> list[int]:
    """End those that no process is about to leave, within a transaction; returns the runs that were ended."""
    ended: list[int] = []
    for pause in expired(connection, now_us):
        if pause.left_us is None and _is_owned(connection, pause.run):
            continue
        _end_children(connection, pause.run)
        closing.enter(connection, "flow_run", pause.run, closing.Move(FAILED.value, "Failed", NEVER_RESUMED, now_us))
        closing.answer_for(connection, [pause.run], ENDED)
        ended.append(pause.run)
    lost.owe_hooks(connection, ended)
    return ended


def _is_owned(connection: sqlite3.Connection, run: int) -> bool:
    lease = connection.execute(
        "SELECT 1 FROM lease WHERE process = ? AND taken_by IS NULL AND let_go_us IS NULL",
        (closing.owner(connection, run),),
    ).fetchone()
    return lease is not None


def _end_children(connection: sqlite3.Connection, run: int) -> None:
    """End what a process that was killed left open in a suspended run."""
    flow_runs, task_runs = closing.open_in_tree(connection, run)
    closing.end_lost(connection, closing.OpenRuns([key for key in flow_runs if key != run], task_runs))


@crash_points_around("pause.claim")
def resume(
    connection: sqlite3.Connection,
    run: int,
    process: int,
    resumed_by: str,
    given: str | None,
    is_gone: Callable[[ProcessIdentity], bool | None],
) -> Reopened:
    """Give a suspended flow run to `process`, within a transaction. See `Pauses.resume_run`."""
    row = read.flow_run(connection, run)
    now_us = clock.now_us()
    if row.state_type != PAUSED.value:
        raise NotPausedError("Cannot resume a run that isn't paused!")
    if row.parent_flow_run is not None:
        raise NotRunnableAgain(f"{row.name} was called in another flow run, and goes on when that one is resumed.")
    pause = next((one for one in reversed(pauses(connection, run)) if one.is_open), None)
    if pause is not None:
        _check(connection, pause, is_gone)
        if pause.until_us is not None and pause.until_us <= now_us:
            raise FlowPauseTimeout("Flow run can no longer be resumed.")
        connection.execute(
            "UPDATE pause SET resumed_us = ?, resumed_by = ?, input = ? WHERE run = ? AND paused_us = ?",
            (now_us, resumed_by, given, run, pause.paused_us),
        )
    _end_children(connection, run)
    connection.execute(
        "UPDATE attempt SET ended_us = ? WHERE run = ? AND ended_us IS NULL",
        ((pause.left_us if pause is not None else None) or row.state_us, run),
    )
    move = closing.Move(SCHEDULED.value, "Resuming", f"Resumed by {resumed_by}.", now_us)
    return reopen.give(connection, run, process, resumed_by, move)


def _check(connection: sqlite3.Connection, pause: PauseRow, is_gone: Callable[[ProcessIdentity], bool | None]) -> None:
    if pause.is_suspended and pause.left_us is not None:
        return
    owner = reopen.owner(connection, pause.run)
    # One whose lease was taken can write nothing more, whatever else it may still do.
    gone = is_gone(owner) if owner is not None and _is_owned(connection, pause.run) else True
    if not pause.is_suspended or gone is False:
        where = f"process {owner.pid} on {owner.host}" if owner is not None else "another process"
        raise NotRunnableAgain(f"The paused run is still in {where}, which has to let go of it first.")
    if gone is None:
        raise NotRunnableAgain(
            "The process that suspended the run has not left it, and from here it can't be known whether that has ended."
        )
