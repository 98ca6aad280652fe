"""Turns the events of the recorder into rows.

Events of one batch are gathered by run, so that a run is written once, as it stands after its last event, and its states one after the
other. Of a run that goes on after the batch, a `_Trace` is kept: the number of its last state, the attempt that is open, and the
texts that were made when it was created. What a row says comes from events wherever it can, since the run itself may be ahead of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from prefect_core.history import plain
from prefect_core.history.batch import Batch, Row
from prefect_core.history.plain import CREATED, ENTERED, RENAMED, Event, inputs_text
from prefect_core.runs import AtEnd, FlowRun, Run, TaskRun
from prefect_core.state_kinds import FINAL, RUNNING, SCHEDULED


class _Trace:
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

    @classmethod
    def after(cls, created: Event) -> _Trace:
        """Return what is remembered of a task run that was written in its first state."""
        trace = cls(seq=0)
        trace.last = created
        return trace


class Fold:
    """The recorder's memory of unfinished runs. Used by the writer's thread alone."""

    def __init__(self, recall: Callable[[int], tuple[int, int] | None], process: int = 0) -> None:
        """`recall` gives the last state's number and the first start of a run that this process did not create, or has let go.

        `process` is the number of this process, which calls the hooks of the states that it enters.
        """
        self._recall = recall
        self._process = process
        self._traces: dict[Run, _Trace] = {}
        self._begun: dict[Run, Event] = {}
        self._ended: list[Run] = []

    @property
    def unfinished(self) -> int:
        """How many runs are remembered."""
        return len(self._traces) + len(self._begun)

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
        for run, group in groups.items():
            if type(run) is not TaskRun or not self._add_plainly(batch, run, group):
                self._add(batch, run, [*plain.in_steps(group)])
        return batch

    def _add_plainly(self, batch: Batch, run: TaskRun, group: list[Event]) -> bool:
        if run in self._begun:
            row = plain.ended(run, group)
            rows = batch.ended
            if row is None and len(group) == 1:
                row, rows = plain.unbegun(run, group), batch.unbegun
            if row is not None:
                rows.append(row)
                self._ended.append(run)
        elif len(group) == 1:
            row = plain.begun(run, group)
            if row is not None:
                batch.begun.append(row)
                self._begun[run] = group[0]
        else:
            row = plain.whole(run, group)
            if row is not None:
                batch.plain.append(row)
        return row is not None

    def committed(self) -> None:
        """Let go of the runs that ended in the batches folded so far: they are written."""
        for run in self._ended:
            self._traces.pop(run, None)
            self._begun.pop(run, None)
        self._ended.clear()

    def given_up(self) -> None:
        """Note that the last batch was not written: what goes on is written as a whole when it next moves."""
        self.committed()
        for run, event in self._begun.items():
            self._traces[run] = _Trace.after(event)
        self._begun.clear()

    def _add(self, batch: Batch, run: Run, group: list[Event]) -> None:
        trace = self._traces.get(run)
        if trace is None:
            trace = self._traces[run] = self._begin(run, group)
        for event in group:
            if event[0] == RENAMED:
                trace.parameters = event[2] or trace.parameters
                continue
            if event[0] == CREATED and event[9] is not None:
                trace.parameters = event[9]
            _enter(batch, trace, run, event)
        if trace.attempt:
            batch.attempts.append(_attempt_row(trace, run))
        if not trace.last:
            trace.last, trace.ended_us = _present(run), run.ended_us
        _add_run(batch, run, trace)
        if type(run) is FlowRun and run.at_end is not None:
            self._add_ending(batch, run, group, run.at_end)
        if trace.last[2] in FINAL:
            self._ended.append(run)

    def _add_ending(self, batch: Batch, run: FlowRun, group: list[Event], at_end: AtEnd) -> None:
        """Add what is to be done at the end, and that it is to be done where that has come: in one transaction with the state."""
        batch.of_results.setdefault("ending", []).append((run.key, *at_end))
        for event in group:
            if run.owes_hooks and event[0] != RENAMED and event[2].value in at_end[0]:
                batch.of_results.setdefault("owed", []).append((run.key, event[5], self._process))

    def _begin(self, run: Run, group: list[Event]) -> _Trace:
        if group[0][0] == CREATED:
            return _Trace()
        if run in self._begun:
            return _Trace.after(self._begun.pop(run))
        known = self._recall(run.key)
        return _Trace() if known is None else _Trace(*known)


def _enter(batch: Batch, trace: _Trace, run: Run, event: Event) -> None:
    what, _, kind, name, message, timestamp_us, attempt, _, details, extra = event
    trace.seq += 1
    batch.states.append((run.key, trace.seq, attempt, kind.value, name, message, timestamp_us, details))
    if trace.attempt and kind is RUNNING and trace.attempt != attempt:
        # The next attempt began without a state in between.
        batch.attempts.append(_attempt_row(trace, run, timestamp_us))
        trace.attempt = 0
    trace.last = event
    trace.worker = extra if what == ENTERED else ""
    if kind is RUNNING:
        trace.started_us = trace.started_us or timestamp_us
        if not trace.attempt:
            trace.attempt, trace.opened_us = attempt, timestamp_us
    elif trace.attempt and (kind in FINAL or kind is SCHEDULED):
        batch.attempts.append(_attempt_row(trace, run, timestamp_us))
        trace.attempt = 0
    trace.ended_us = timestamp_us if kind in FINAL else 0


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


def _attempt_row(trace: _Trace, run: Run, ended_us: int | None = None) -> Row:
    return (run.key, trace.attempt, trace.opened_us, ended_us, trace.last[2].value, trace.last[3], trace.worker)


def _add_run(batch: Batch, run: Run, trace: _Trace) -> None:
    _, _, kind, name, message, timestamp_us, _, run_count, _, _ = trace.last
    course = (
        run.created_us,
        trace.started_us or None,
        trace.ended_us or None,
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
            inputs_text(run),
        )
        batch.task_runs.append((*place, *course, trace.worker))
    else:
        batch.flow_runs.append((*_flow_run_place(run, uid, trace.parameters, tags), *course))


def _flow_run_place(run: FlowRun, uid: bytes, parameters: str, tags: str | None) -> Row:
    parent_task_run = run.parent_task_run.key or None if run.parent_task_run is not None else None
    parent_flow_run = run.parent_flow_run.key or None if run.parent_flow_run is not None else None
    named = (run.key, uid, run.name, run.flow_name, run.flow_version, run.entrypoint, run.runner_name)
    return (*named, parameters, tags, parent_task_run, parent_flow_run)


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
