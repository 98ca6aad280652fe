"""Turns the events of the recorder into rows.

Events of one batch are gathered by run, so that a run is written once, as it stands after its last event, and its states one after the
other. Of a run that goes on after the batch, a `_Thread` is kept: the number of its last state, the attempt that is open, and the
texts that were made when it was created. What a row says comes from events wherever it can, since the run itself may be ahead of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from prefect_core import ids
from prefect_core.history.batch import Batch, Row
from prefect_core.runs import FlowRun, Run, TaskRun
from prefect_core.state_kinds import COMPLETED, FINAL, PENDING, RUNNING, SCHEDULED

Event = tuple[Any, ...]
"""(CREATED, run, type, name, message, timestamp_us, attempt, run_count, details, parameters of a flow run or None),
(ENTERED, run, type, name, message, timestamp_us, attempt, run_count, details, worker) or (RENAMED, run)."""

CREATED, ENTERED, RENAMED = range(3)


class _Thread:
    """What must be remembered of a run from one batch to the next."""

    __slots__ = ("attempt", "ended_us", "last", "opened_us", "parameters", "seq", "started_us", "worker")

    def __init__(self, seq: int = -1, started_us: int = 0) -> None:
        self.seq = seq
        self.started_us = started_us
        self.ended_us = 0
        self.attempt = 0
        self.opened_us = 0
        self.parameters = "{}"
        self.worker = ""
        self.last: Event = ()


class Fold:
    """The recorder's memory of unfinished runs. Used by the writer's thread alone."""

    def __init__(self, recall: Callable[[int], tuple[int, int] | None]) -> None:
        """`recall` gives the last state's number and the first start of a run that this process did not create, or has let go."""
        self._recall = recall
        self._threads: dict[Run, _Thread] = {}
        self._ended: list[Run] = []

    @property
    def unfinished(self) -> int:
        """How many runs are remembered."""
        return len(self._threads)

    def fold(self, events: Sequence[Event], logs: list[Row]) -> Batch:
        """Return the rows of `events`; `logs` are rows already."""
        batch = Batch()
        batch.logs = logs
        groups: dict[Run, list[Event]] = {}
        for event in events:
            group = groups.get(event[1])
            if group is None:
                groups[event[1]] = [event]
            else:
                group.append(event)
        plain = batch.plain
        for run, group in groups.items():
            if len(group) == 3 and type(run) is TaskRun and (row := _plain_row(run, group)) is not None:
                plain.append(row)
            else:
                self._add(batch, run, group)
        return batch

    def committed(self) -> None:
        """Let go of the runs that ended in the batches folded so far: they are written."""
        for run in self._ended:
            self._threads.pop(run, None)
        self._ended.clear()

    def _add(self, batch: Batch, run: Run, group: list[Event]) -> None:
        thread = self._threads.get(run)
        if thread is None:
            thread = self._threads[run] = self._begin(run, group)
        for event in group:
            if event[0] == RENAMED:
                continue
            if event[0] == CREATED and event[9] is not None:
                thread.parameters = event[9]
            _enter(batch, thread, run, event)
        if thread.attempt:
            batch.attempts.append(_attempt_row(thread, run))
        if not thread.last:
            thread.last, thread.ended_us = _present(run), run.ended_us
        _add_run(batch, run, thread)
        if thread.last[2] in FINAL:
            self._ended.append(run)

    def _begin(self, run: Run, group: list[Event]) -> _Thread:
        if group[0][0] == CREATED:
            return _Thread()
        known = self._recall(run.key)
        return _Thread() if known is None else _Thread(*known)


def _enter(batch: Batch, thread: _Thread, run: Run, event: Event) -> None:
    what, _, kind, name, message, timestamp_us, attempt, _, details, extra = event
    thread.seq += 1
    batch.states.append((run.key, thread.seq, attempt, kind.value, name, message, timestamp_us, details))
    if thread.attempt and kind is RUNNING and thread.attempt != attempt:
        # The next attempt began without a state in between.
        batch.attempts.append(_attempt_row(thread, run, timestamp_us))
        thread.attempt = 0
    thread.last = event
    thread.worker = extra if what == ENTERED else ""
    if kind is RUNNING:
        thread.started_us = thread.started_us or timestamp_us
        if not thread.attempt:
            thread.attempt, thread.opened_us = attempt, timestamp_us
    elif thread.attempt and (kind in FINAL or kind is SCHEDULED):
        batch.attempts.append(_attempt_row(thread, run, timestamp_us))
        thread.attempt = 0
    thread.ended_us = timestamp_us if kind in FINAL else 0


def _present(run: Run) -> Event:
    """Return an event for a run that was renamed after its end, when nothing of it is remembered."""
    state = run.state
    return (
        RENAMED,
        run,
        state.type,
        state.name,
        state.message,
        state.timestamp_us,
        run.attempt,
        run.run_count,
        None,
        None,
    )


def _attempt_row(thread: _Thread, run: Run, ended_us: int | None = None) -> Row:
    return (run.key, thread.attempt, thread.opened_us, ended_us, thread.last[2].value, thread.last[3], thread.worker)


def _add_run(batch: Batch, run: Run, thread: _Thread) -> None:
    _, _, kind, name, message, timestamp_us, _, run_count, _, _ = thread.last
    course = (
        run.created_us,
        thread.started_us or None,
        thread.ended_us or None,
        run_count,
        kind.value,
        name,
        message,
        timestamp_us,
    )
    tags = _compact(sorted(run.tags)) if run.tags else None
    uid = run.uid.to_bytes(16, "big")
    if isinstance(run, TaskRun):
        flow_run = run.flow_run.key or None if run.flow_run is not None else None
        parent = run.parent_task_run.key or None if run.parent_task_run is not None else None
        place = (
            run.key,
            uid,
            flow_run,
            parent,
            run.task_name,
            run.task_key,
            run.index,
            run._name,
            tags,
            _inputs_text(run),
        )
        batch.task_runs.append((*place, *course, thread.worker))
    else:
        batch.flow_runs.append((*_flow_run_place(run, uid, thread.parameters, tags), *course))


def _flow_run_place(run: FlowRun, uid: bytes, parameters: str, tags: str | None) -> Row:
    parent_task_run = run.parent_task_run.key or None if run.parent_task_run is not None else None
    parent_flow_run = run.parent_flow_run.key or None if run.parent_flow_run is not None else None
    named = (run.key, uid, run.name, run.flow_name, run.flow_version, run.entrypoint, run.runner_name)
    return (*named, parameters, tags, parent_task_run, parent_flow_run)


def _plain_row(run: TaskRun, group: list[Event]) -> Row | None:
    first, second, third = group
    if (
        first[0] != CREATED
        or first[2:5] != _PENDING
        or second[2:5] != _RUNNING
        or third[2:5] != _COMPLETED
        or (first[6], second[6], third[6], third[7]) != (0, 1, 1, 1)
        or first[8] is not None
        or run.tags
        or run._name is not None
        or run.parent_task_run is not None
    ):
        return None
    flow_run = run.flow_run.key or None if run.flow_run is not None else None
    inputs = _inputs_text(run) if run.inputs else None
    place = (run.key, run.uid.to_bytes(16, "big"), flow_run, run.task_name, run.task_key, run.index, inputs)
    return (*place, first[5], second[5], third[5], third[9])


_PENDING = (PENDING, "Pending", None)
_RUNNING = (RUNNING, "Running", None)
_COMPLETED = (COMPLETED, "Completed", None)


def _inputs_text(run: TaskRun) -> str | None:
    if not run.inputs:
        return None
    return _compact([[parameter, kind, ids.as_text(uid)] for parameter, kind, uid in run.inputs])


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
