"""The events of the recorder, and the short rows of task runs that have nothing to tell but their times.

A task run is plain while it has no tags, name or parent task run of its own, and its states are Pending, Running and Completed with their
default names and without messages, in one attempt; or while it ends without one. It is written as one row when all of that falls into one
batch, or as two: when it was created, and when it has ended.
"""

from __future__ import annotations

import json
from typing import Any

from prefect_core import ids
from prefect_core.history.batch import Row
from prefect_core.runs import Edge, TaskRun
from prefect_core.state_kinds import COMPLETED, FINAL, PENDING, RUNNING

Event = tuple[Any, ...]
"""(CREATED, run, type, name, message, timestamp_us, attempt, run_count, details, parameters of a flow run or None),
(ENTERED, run, type, name, message, timestamp_us, attempt, run_count, details, worker) or
(RENAMED, run, parameters of a flow run or None)."""

CREATED, ENTERED, RENAMED = range(3)
LENGTH = 10
"""Fields of an event that is folded; what comes behind them stands beside the run."""

_PENDING = (PENDING, "Pending", None)
_RUNNING = (RUNNING, "Running", None)
_COMPLETED = (COMPLETED, "Completed", None)


def whole(run: TaskRun, group: list[Event]) -> Row | None:
    """Return the row, in the columns `batch.PLAIN`, of a run with these three events; None if it is not plain."""
    first, second, third = group
    if first[0] != CREATED or first[2:5] != _PENDING or not _is_plain(run) or not _ends_plainly(second, third):
        return None
    return (*_place(run), first[5], second[5], third[5], third[9])


def begun(run: TaskRun, group: list[Event]) -> Row | None:
    """Return the row, in the columns `batch.BEGUN`, of a run with this one event; None if it is not plain."""
    first = group[0]
    if first[0] != CREATED or first[2:5] != _PENDING or first[6] or not _is_plain(run):
        return None
    return (*_place(run), first[5])


def ended(run: TaskRun, group: list[Event]) -> Row | None:
    """Return the row, in the columns `batch.ENDED`, of a begun run with these two further events; None if it is not plain."""
    second, third = group
    if not _is_plain(run) or not _ends_plainly(second, third):
        return None
    return (run.key, second[5], third[5], third[9])


def unbegun(run: TaskRun, group: list[Event]) -> Row | None:
    """Return the row, in the columns `batch.UNBEGUN`, of a begun run with this one further event; None if it is not plain."""
    last = group[0]
    if last[0] != ENTERED or last[2] not in FINAL or last[6] or last[7] or not _is_plain(run):
        return None
    return (run.key, last[2].value, last[3], last[4], last[5])


def _is_plain(run: TaskRun) -> bool:
    return not run.tags and run._name is None and run.parent_task_run is None


def _ends_plainly(second: Event, third: Event) -> bool:
    if second[0] != ENTERED or third[0] != ENTERED or second[2:5] != _RUNNING or third[2:5] != _COMPLETED:
        return False
    return bool(second[6] == third[6] == third[7] == 1)


def _place(run: TaskRun) -> Row:
    flow_run = run.flow_run.key or None if run.flow_run is not None else None
    uid = run.uid.to_bytes(16, "big")
    return (run.key, uid, flow_run, run.task_name, run.task_key, run.index, inputs_text(run) if run.inputs else None)


def inputs_text(run: TaskRun) -> str | None:
    """Return the inputs of a task run as the history keeps them."""
    if not run.inputs:
        return None
    return json.dumps(
        [[parameter, kind, ids.as_text(uid)] for parameter, kind, uid in run.inputs], separators=(",", ":")
    )


def inputs_from(text: str | None) -> tuple[Edge, ...]:
    """Return the inputs that `inputs_text` gave for text."""
    return tuple([(name, kind, int(uid.replace("-", ""), 16)) for name, kind, uid in json.loads(text)]) if text else ()
