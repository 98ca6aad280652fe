"""Cancelling runs, from any process that can open the history: the process that has the run is asked, and records it.

A run that no process has (a suspended one) is ended here. A process of this machine that does not answer by the end of the grace period is
killed.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from prefect_core import history
from prefect_core.blocking import on_thread
from prefect_core.control.asking import Answer, addressee, ask, await_answer, is_left, is_process, patience_seconds
from prefect_core.control.reaping import reap
from prefect_core.errors import NotCancellable, ObjectNotFound
from prefect_core.history.process import is_gone, this_user
from prefect_core.history.requests import ENDED
from prefect_core.history.rows import FlowRunRow, TaskRunRow
from prefect_core.state_kinds import CANCELLED, FINAL, PAUSED, PENDING, SCHEDULED, StateType
from prefect_core.states import State

if TYPE_CHECKING:
    from prefect_core.history import HistoryStore
    from prefect_core.history.leases import LeaseRow

NO_INFRASTRUCTURE = {
    SCHEDULED: "Scheduled flow run has no infrastructure to terminate.",
    PENDING: "Scheduled flow run has no infrastructure to terminate.",
    PAUSED: "Suspended flow run has no infrastructure to terminate.",
}
MISSING = "This flow run is missing infrastructure tracking information and cancellation cannot be guaranteed."
_DYING_SECONDS = 10.0

Row = FlowRunRow | TaskRunRow


def cancel_flow_run(flow_run_id: UUID | str, grace_seconds: float | None = None) -> State:
    """Have a flow run end, with all that runs in it; returns the state that was recorded: Cancelling, or Cancelled if it has ended by that.

    Blocks until that is durable, not until the run has ended. Its bodies have `grace_seconds` to end by themselves (None: the setting
    `cancel_grace_seconds` of the process that has the run), then they are stopped as far as that is possible. A subflow run may be
    cancelled alone: its caller gets its Cancelled state. In code of an event loop, `acancel_flow_run` does not hold that up.

    `flow_run_id` may also be the unique start of an id, or a name. Raises `ObjectNotFound`, or `NotCancellable` for a run that has ended
    or can't be reached.
    """
    _check(grace_seconds)
    with history.reading() as stored:
        try:
            row = stored.flow_run(str(flow_run_id))
        except ObjectNotFound as error:
            raise _not_found("Flow", flow_run_id, error) from error
        return _cancel_flow_run(stored, row, grace_seconds)


def cancel_task_run(task_run_id: UUID | str, grace_seconds: float | None = None) -> State:
    """Have a task run end while its flow goes on, as `cancel_flow_run` does for a flow run; it is not tried again.

    One outside of flows is cancelled like one in a flow. A task run that stands for a subflow run is cancelled with that.
    """
    _check(grace_seconds)
    with history.reading() as stored:
        try:
            row = stored.task_run(str(task_run_id))
        except ObjectNotFound as error:
            raise _not_found("Task", task_run_id, error) from error
        if row.child_flow_run is not None:
            return _cancel_flow_run(stored, stored.flow_run(row.child_flow_run), grace_seconds)
        reap(stored.control())
        row = stored.task_run(row.key)
        _refuse_ended(row)
        whom = _root(stored, row.flow_run).key if row.flow_run is not None else addressee(row)
        return _ask(stored, row, whom, grace_seconds)


async def acancel_flow_run(flow_run_id: UUID | str, grace_seconds: float | None = None) -> State:
    """Do as `cancel_flow_run`, and await what that blocks for."""
    return await on_thread(partial(cancel_flow_run, flow_run_id, grace_seconds))


async def acancel_task_run(task_run_id: UUID | str, grace_seconds: float | None = None) -> State:
    """Do as `cancel_task_run`, and await what that blocks for."""
    return await on_thread(partial(cancel_task_run, task_run_id, grace_seconds))


def _check(grace_seconds: float | None) -> None:
    if grace_seconds is not None and not 0 <= grace_seconds < float("inf"):
        raise ValueError(f"'grace_seconds' must be a number of seconds from 0, or None; got {grace_seconds!r}.")


def _not_found(kind: str, name: UUID | str, error: ObjectNotFound) -> ObjectNotFound:
    # One that names several runs says so.
    return error if str(error).startswith("Several") else ObjectNotFound(f"{kind} run {str(name)!r} not found!")


def _unable(row: Row, reason: str) -> NotCancellable:
    kind = "Flow" if isinstance(row, FlowRunRow) else "Task"
    return NotCancellable(f"{kind} run '{row.id}' was unable to be cancelled. Reason: '{reason}'")


def _refuse_ended(row: Row) -> None:
    if StateType(row.state_type) in FINAL:
        raise _unable(row, f"Run is already in terminal state {row.state_type}.")


def _root(stored: HistoryStore, key: int) -> FlowRunRow:
    row = stored.flow_run(key)
    while row.parent_flow_run is not None:
        row = stored.flow_run(row.parent_flow_run)
    return row


def _cancel_flow_run(stored: HistoryStore, row: FlowRunRow, grace_seconds: float | None) -> State:
    reap(stored.control())
    row = stored.flow_run(row.key)
    _refuse_ended(row)
    return _ask(stored, row, _root(stored, row.key).key, grace_seconds)


def _ask(stored: HistoryStore, row: Row, whom: int, grace_seconds: float | None) -> State:
    """Ask the process that has the run; `whom` is the run that hears it, the outermost that is under way there."""
    control = stored.control()
    lease = control.lease(control.owner(row.key))
    has_process = lease is not None and lease.taken_by is None and lease.let_go_us is None
    if isinstance(row, FlowRunRow) and (not has_process or is_left(control, row)):
        return _end_here(stored, row)
    request = ask(stored, whom, "cancel", {"run": row.key, "grace_seconds": grace_seconds})
    answer = await_answer(stored, request, patience_seconds(grace_seconds))
    if answer is None:
        return _without_answer(stored, row, whom, lease)
    return _state_of(stored, row, answer)


def _state_of(stored: HistoryStore, row: Row, answer: Answer) -> State:
    if "state" in answer.answer:
        return State(StateType(answer.answer["state"]))
    now = _as_it_ended(stored, row) if answer.over == ENDED else _as_it_is(stored, row)
    if now.state_type == CANCELLED.value:
        return State(CANCELLED, now.state_name, now.state_message)
    if answer.over == ENDED or "refused" in answer.answer:
        _refuse_ended(now)
    if isinstance(now, FlowRunRow) and answer.over is not None and StateType(now.state_type) not in FINAL:
        return _end_here(stored, now)
    raise _unable(row, answer.over or answer.answer.get("refused") or str(answer.answer.get("error")))


def _as_it_is(stored: HistoryStore, row: Row) -> Row:
    return stored.flow_run(row.key) if isinstance(row, FlowRunRow) else stored.task_run(row.key)


def _as_it_ended(stored: HistoryStore, row: Row) -> Row:
    """Return a run of which its process has said that it has ended: that may be recorded a moment later."""
    control = stored.control()
    give_up = time.monotonic() + _DYING_SECONDS
    while True:
        now = _as_it_is(stored, row)
        is_over = StateType(now.state_type) in FINAL or (isinstance(now, FlowRunRow) and is_left(control, now))
        lease = control.lease(control.owner(row.key))
        if is_over or lease is None or lease.taken_by is not None or time.monotonic() >= give_up:
            return now
        time.sleep(0.01)


def _end_here(stored: HistoryStore, row: FlowRunRow) -> State:
    message = NO_INFRASTRUCTURE.get(StateType(row.state_type), MISSING)
    if stored.control().cancel_left(row.key, message):
        return State(CANCELLED, None, message)
    _refuse_ended(stored.flow_run(row.key))
    raise _unable(row, "Another process has just taken it; ask again.")


def _without_answer(stored: HistoryStore, row: Row, whom: int, lease: LeaseRow | None) -> State:
    """Kill the process that has the run and did not answer, if it is one of this machine."""
    if lease is None:
        raise _unable(row, MISSING)
    process = lease.process
    if is_gone(process) is None:
        raise _unable(
            row,
            f"Unable to kill process {process.pid}: The process is running on a different host {process.host!r}."
            if process.host != os.uname().nodename
            else f"Unable to kill process {process.pid}: It can't be seen from here.",
        )
    if is_process(whom):
        _refuse_ended(stored.task_run(row.key))
        raise _unable(row, f"Process {process.pid} does not answer. What ends the task run is the end of that process.")
    outermost = stored.flow_run(whom)
    if process.pid == os.getpid() or StateType(outermost.state_type) in {PENDING, SCHEDULED}:
        raise _unable(
            row, "Its process lives, and does not hear of it yet: the request stays, and is heard when the run begins."
        )
    if not isinstance(row, FlowRunRow) or row.parent_flow_run is not None:
        raise _unable(row, f"Process {process.pid} does not answer. Cancelling the flow run '{outermost.id}' ends it.")
    try:
        os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # between two looks
    except PermissionError as error:
        raise _unable(row, f"Unable to kill process {process.pid}: It belongs to another user.") from error
    give_up = time.monotonic() + _DYING_SECONDS
    while not is_gone(process) and time.monotonic() < give_up:
        time.sleep(0.01)
    control = stored.control()
    seen = control.lease(lease.number)
    if seen is None or control.take_lease(seen, this_user(), row.key) is None:
        # Somebody else found it dead.
        reap(control)
    return _state_of(stored, row, Answer({}, ENDED))
