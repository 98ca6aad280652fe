"""The events of the recorder, and the short rows of task runs that have nothing to tell but their times.

A task run is plain while it has no tags, name or parent task run of its own, and its states are Pending, Running and Completed with their
default names and without messages, in one attempt; or while it ends without one. It is written as one row when all of that falls into one
batch, or as two: when it was created, and when it has ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prefect_core import ids
from prefect_core.history.batch import Row
from prefect_core.runs import Edge, TaskRun
from prefect_core.state_kinds import COMPLETED, FINAL, PENDING, RUNNING

if TYPE_CHECKING:
    from prefect_core.states import State

Event = tuple[Any, ...]
"""(CREATED, run, type, name, message, timestamp_us, attempt, run_count, details, parameters of a flow run or None),
(ENTERED, run, type, name, message, timestamp_us, attempt, run_count, details, worker) or
(RENAMED, run, parameters of a flow run or None) or
(RAN, run, started_us, ended_us, worker), which stands for two of the second kind."""

CREATED, ENTERED, RENAMED, RAN = range(4)
LENGTH = 10
"""Fields of an event that is folded; what comes behind them stands beside the run."""

_PENDING = (PENDING, "Pending", None)
_RUNNING = (RUNNING, "Running", None)
_COMPLETED = (COMPLETED, "Completed", None)


def is_completed_as_usual(state: State) -> bool:
    """Tell whether a state is Completed with nothing of its own but its time."""
    return state.type is COMPLETED and state.name == "Completed" and state.message is None and state.kept is None


def whole(run: TaskRun, group: list[Event]) -> Row | None:
    """Return the row, in the columns `batch.PLAIN`, of a run with these events, its creation and its course; None if it is not plain."""
    first, *further = group
    if first[0] != CREATED or first[2:5] != _PENDING or not _is_plain(run):
        return None
    course = _course(further)
    return None if course is None else (*_place(run), first[5], *course)


def begun(run: TaskRun, group: list[Event]) -> Row | None:
    """Return the row, in the columns `batch.BEGUN`, of a run with this one event; None if it is not plain."""
    first = group[0]
    if first[0] != CREATED or first[2:5] != _PENDING or first[6] or not _is_plain(run):
        return None
    return (*_place(run), first[5])


def ended(run: TaskRun, group: list[Event]) -> Row | None:
    """Return the row, in the columns `batch.ENDED`, of a begun run with these further events; None if it is not plain."""
    course = _course(group) if _is_plain(run) else None
    return None if course is None else (run.key, *course)


def unbegun(run: TaskRun, group: list[Event]) -> Row | None:
    """Return the row, in the columns `batch.UNBEGUN`, of a begun run with this one further event; None if it is not plain."""
    last = group[0]
    if last[0] != ENTERED or last[2] not in FINAL or last[6] or last[7] or not _is_plain(run):
        return None
    return (run.key, last[2].value, last[3], last[4], last[5])


def _is_plain(run: TaskRun) -> bool:
    return not run.tags and run._name is None and run.parent_task_run is None


def _course(events: list[Event]) -> Row | None:
    """Return when a run went Running and Completed, and on which worker; None if it did not, or something else."""
    if len(events) == 1:
        return events[0][2:] if events[0][0] == RAN else None
    if len(events) != 2:
        return None
    second, third = events
    if second[0] != ENTERED or third[0] != ENTERED or second[2:5] != _RUNNING or third[2:5] != _COMPLETED:
        return None
    return (second[5], third[5], third[9]) if second[6] == third[6] == third[7] == 1 else None


def in_steps(events: list[Event]) -> Iterator[Event]:
    """Give events, two in the place of each that stands for two."""
    for event in events:
        if event[0] == RAN:
            _, run, started_us, ended_us, worker = event
            yield (ENTERED, run, *_RUNNING, started_us, 1, 1, None, worker)
            yield (ENTERED, run, *_COMPLETED, ended_us, 1, 1, None, worker)
        else:
            yield event


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
