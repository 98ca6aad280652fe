"""The log of a flow run: the stored records of all runs in it, and a line for the end of each task run.

The engine's own lines about task runs are never stored, since the states already say when each ended and how; here they are made from
them again, with the same levels as on the console.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

from prefect_core import settings
from prefect_core.cli.output import iso
from prefect_core.clock import to_datetime
from prefect_core.history.rows import FlowRunRow, TaskRunRow
from prefect_core.history.store import HistoryStore, RunFilter
from prefect_core.state_kinds import FINAL, StateType
from prefect_core.states import State

_ENGINE = "prefect_core.task_runs"


class LogLine(NamedTuple):
    """One line, and the run that it is about."""

    timestamp_us: int
    level: int
    run: FlowRunRow | TaskRunRow | None
    logger: str
    message: str

    def form(self) -> dict[str, object]:
        """Return the line as `--json` prints it."""
        run = self.run
        return {
            "timestamp": iso(to_datetime(self.timestamp_us)),
            "level": logging.getLevelName(self.level),
            "logger": self.logger,
            "run": None if run is None else {"type": _kind(run).replace(" ", "_"), "id": str(run.id), "name": run.name},
            "message": self.message,
        }

    def text(self) -> str:
        """Return the line as the console shows it, with the date."""
        moment = to_datetime(self.timestamp_us).astimezone()
        shown = f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}"
        about = "" if self.run is None else f"{_kind(self.run).capitalize()} {self.run.name!r} - "
        return f"{shown} | {logging.getLevelName(self.level):<7} | {about}{self.message}"


def log_lines(store: HistoryStore, flow_run: FlowRunRow, level: int, task: str | None = None) -> list[LogLine]:
    """Return the lines of a flow run and of all runs in it, in order of time; with `task` only those of task runs of that name."""
    flow_runs = list(_tree(store, flow_run))
    task_runs = [run for one in flow_runs for run in store.task_runs(RunFilter(flow_run=one.key))]
    if task is not None:
        flow_runs, task_runs = [], [run for run in task_runs if task in {run.name, run.task_name}]
    by_key: dict[int | None, FlowRunRow | TaskRunRow] = {run.key: run for run in (*flow_runs, *task_runs)}
    lines = [
        LogLine(row.timestamp_us, row.level, by_key[row.run], row.logger, row.message)
        for row in store.logs(flow_run.key, tree=True, level=level)
        if row.run in by_key
    ]
    lines += [line for line in _ends(task_runs) if line.level >= level]
    return sorted(lines, key=lambda line: line.timestamp_us)


def _tree(store: HistoryStore, flow_run: FlowRunRow) -> Iterator[FlowRunRow]:
    yield flow_run
    for child in store.children(flow_run.key):
        yield from _tree(store, child)


def _ends(task_runs: list[TaskRunRow]) -> Iterator[LogLine]:
    """Make the lines of the task runs that are over; those that stand for a subflow run have that run's own line."""
    shown: dict[int | None, int] = {}
    most = settings.current().logging_task_lines
    for run in sorted(task_runs, key=lambda run: run.state_us):
        state = State(StateType(run.state_type), run.state_name, run.state_message)
        if run.child_flow_run is not None or not (state.type in FINAL or state.name == "NotReady"):
            continue
        number = shown[run.flow_run] = shown.get(run.flow_run, 0) + 1
        level = logging.ERROR if not state.is_completed() else logging.INFO if number <= most else logging.DEBUG
        yield LogLine(run.state_us, level, run, _ENGINE, f"Finished in state {state}")


def _kind(run: FlowRunRow | TaskRunRow) -> str:
    return "flow run" if isinstance(run, FlowRunRow) else "task run"
