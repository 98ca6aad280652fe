"""How runs ended, and where it began."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_core import clock
from prefect_core.errors import ObjectNotFound
from prefect_core.history.owed import KEEPS_CRASHING
from prefect_core.history.requests import LOST
from prefect_core.history.rows import TaskRunRow
from prefect_core.history.store import RunFilter
from prefect_core.reasons import looking
from prefect_core.reasons.kinds import Ended, Failure, ProcessLost, Reason, UpstreamFailed
from prefect_core.state_kinds import CANCELLED, COMPLETED, CRASHED, FAILED, StateType

if TYPE_CHECKING:
    from prefect_core.history.rows import FlowRunRow
    from prefect_core.history.store import HistoryStore
    from prefect_core.reasons.looking import Row

_FAILURES = (FAILED.value, CRASHED.value)
_LOST = LOST.removesuffix(".")
"""How the message of each run whose process was lost begins: of one that keeps crashing, the sentence goes on."""


def of_ended(store: HistoryStore, row: Row) -> Reason:
    """Return how a run ended that did."""
    if row.state_name == looking.NOT_READY:
        return _of_not_ready(store, row)
    at = clock.to_datetime(row.ended_us or row.state_us)
    if (row.state_message or "").startswith(_LOST):
        is_left_alone = row.state_name == KEEPS_CRASHING
        lease = looking.lease_of(store, row)
        if lease is None:
            return ProcessLost(None, None, at, None, is_left_alone)
        process, heard = looking.process(lease.process), looking.last_heard(lease)
        return ProcessLost(process, heard, at, lease.taken_by, is_left_alone)
    asked = looking.canceller(store, row) if row.state_type == CANCELLED.value else None
    first = _first_failure(store, row)
    return Ended(at, row.duration_seconds, row.run_count, row.state_message, first, asked)


def _first_failure(store: HistoryStore, row: Row) -> Failure | None:
    """Return the first run in a flow run that did not end well, down to one that has none in it; None if there is none."""
    found: TaskRunRow | None = None
    flow_run = row.child_flow_run if isinstance(row, TaskRunRow) else row.key
    while flow_run is not None:
        failed = store.task_runs(RunFilter(flow_run=flow_run, state_types=_FAILURES))
        if not failed:
            break
        found = min(failed, key=lambda one: (one.ended_us or one.state_us, one.uid))
        flow_run = found.child_flow_run
    return Failure(looking.ref(found), found.state_message) if found is not None else None


def _of_not_ready(store: HistoryStore, row: Row) -> UpstreamFailed:
    first = at = _failed_input(store, row)
    if first is None:
        return UpstreamFailed(None, None)
    seen = {first.uid}
    while at is not None and at.state_name == looking.NOT_READY:
        further = _failed_input(store, at)
        if further is None or further.uid in seen:
            break
        seen.add(further.uid)
        at = further
    assert at is not None
    inside = _first_failure(store, at) if StateType(at.state_type) is not COMPLETED else None
    return UpstreamFailed(looking.ref(first), inside or Failure(looking.ref(at), at.state_message))


def _failed_input(store: HistoryStore, row: Row) -> Row | None:
    """Return the first input of a run that ended otherwise than by completing."""
    made: list[Row] = [one for one in inputs(store, row) if looking.has_ended(one)]
    return next((one for one in made if StateType(one.state_type) is not COMPLETED), None)


def inputs(store: HistoryStore, row: Row) -> list[TaskRunRow]:
    """Return the runs that a run gets its inputs from, or waits for, in order; of a subflow run, those that stand with its parent."""
    tracking = row if isinstance(row, TaskRunRow) else _tracking(store, row)
    if tracking is None:
        return []
    ids = dict.fromkeys(one.id for one in tracking.inputs if one.kind == "task_run")
    found = [looking.by_id(store, one) for one in ids]
    return [one for one in found if isinstance(one, TaskRunRow)]


def _tracking(store: HistoryStore, row: FlowRunRow) -> TaskRunRow | None:
    try:
        return store.task_run(row.parent_task_run) if row.parent_task_run is not None else None
    except ObjectNotFound:
        return None
