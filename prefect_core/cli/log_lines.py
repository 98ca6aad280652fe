"""The log of a flow run: the stored records of all runs in it, and the lines that say how each of them ended.

Lines that only repeat a state are never stored; here they are made from the states again. As on the console, those of completed runs are
DEBUG from a certain number on.
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
from prefect_core.logs.records import FLOW_RUNS, TASK_RUNS
from prefect_core.state_kinds import FINAL, StateType
from prefect_core.states import State

Run = FlowRunRow | TaskRunRow


class LogLine(NamedTuple):
    """One line, and the run that it is about."""

    timestamp_us: int
    level: int
    run: Run
    logger: str
    message: str

    def form(self) -> dict[str, object]:
        """Return the line as `--json` prints it."""
        return {
            "timestamp": iso(to_datetime(self.timestamp_us)),
            "level": logging.getLevelName(self.level),
            "logger": self.logger,
            "run": {"type": _kind(self.run), "id": str(self.run.id), "name": self.run.name},
            "message": self.message,
        }

    def text(self) -> str:
        """Return the line as the console shows it, with the date."""
        moment = to_datetime(self.timestamp_us).astimezone()
        shown = f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}"
        about = _kind(self.run).capitalize().replace("_", " ")
        return f"{shown} | {logging.getLevelName(self.level):<7} | {about} {self.run.name!r} - {self.message}"


def log_lines(store: HistoryStore, flow_run: FlowRunRow, level: int, task: str | None = None) -> list[LogLine]:
    """Return the lines of a flow run and of all runs in it, in order of time; with `task` only those of task runs of that name."""
    flow_runs = list(_tree(store, flow_run))
    task_runs = [run for one in flow_runs for run in store.task_runs(RunFilter(flow_run=one.key))]
    if task is not None:
        flow_runs, task_runs = [], [run for run in task_runs if task in {run.name, run.task_name}]
    every: list[Run] = [*flow_runs, *task_runs]
    by_key: dict[int | None, Run] = {run.key: run for run in every}
    lines = [
        LogLine(row.timestamp_us, row.level, by_key[row.run], row.logger, row.message)
        for row in store.logs(flow_run.key, tree=True, level=level)
        if row.run in by_key
    ]
    last = {line.run.key: line.timestamp_us for line in lines}
    lines += [line for line in _ends(every, last) if line.level >= level]
    return sorted(lines, key=lambda line: line.timestamp_us)


def _tree(store: HistoryStore, flow_run: FlowRunRow) -> Iterator[FlowRunRow]:
    yield flow_run
    for child in store.children(flow_run.key):
        yield from _tree(store, child)


def _ends(runs: list[Run], last: dict[int, int]) -> Iterator[LogLine]:
    """Make the lines of the runs that are over, each behind the `last` record of its run, which may have been made just after its end."""
    left = settings.current().logging_task_lines
    for run in sorted(runs, key=lambda run: run.state_us):
        state = State(StateType(run.state_type), run.state_name, run.state_message)
        if not (state.type in FINAL or state.name == "NotReady"):
            continue
        # What stands for a subflow run ended as that did.
        if isinstance(run, TaskRunRow) and run.child_flow_run is not None:
            continue
        level = logging.ERROR
        if state.is_completed():
            level = logging.INFO if left > 0 or isinstance(run, FlowRunRow) else logging.DEBUG
            left -= 1
        logger = FLOW_RUNS if isinstance(run, FlowRunRow) else TASK_RUNS
        yield LogLine(max(run.state_us, last.get(run.key, 0)), level, run, logger, f"Finished in state {state}")


def _kind(run: Run) -> str:
    return "flow_run" if isinstance(run, FlowRunRow) else "task_run"
