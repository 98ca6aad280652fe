"""What a log record says of its run: fields for anybody's formatter, and the run itself for the history."""

from __future__ import annotations

import logging
from typing import Any

from prefect_core import context, ids
from prefect_core.runs import FlowRun, Run

FLOW_RUNS = "prefect_core.flow_runs"
TASK_RUNS = "prefect_core.task_runs"
ENGINE = "prefect_core.engine"


class RunLink:
    """A run that travels on a record inside this process; elsewhere, where a record is pickled to, it is None."""

    __slots__ = ("run",)

    def __init__(self, run: Run | None) -> None:
        self.run = run

    def __reduce__(self) -> tuple[Any, ...]:
        # A run holds its state, and that the value of a user: neither has to be picklable for a record's sake.
        return RunLink, (None,)


def logger_name(run: Run | None) -> str:
    """Return the name of the logger for lines about a run, or about none."""
    if run is None:
        return ENGINE
    return FLOW_RUNS if isinstance(run, FlowRun) else TASK_RUNS


def fields_of(run: Run) -> dict[str, Any]:
    """Return what records of a run carry as attributes; identifiers are text, and None stands for a flow run that isn't there."""
    flow_run = run if isinstance(run, FlowRun) else run.flow_run
    fields: dict[str, Any] = {
        "flow_run_id": ids.as_text(flow_run.uid) if flow_run is not None else None,
        "flow_run_name": flow_run.name if flow_run is not None else None,
        "flow_name": flow_run.flow_name if flow_run is not None else None,
        "run_link": RunLink(run),
    }
    if not isinstance(run, FlowRun):
        fields |= {"task_run_id": ids.as_text(run.uid), "task_run_name": run.name, "task_name": run.task_name}
    return fields


def is_about_runs(record: logging.LogRecord) -> bool:
    """Tell whether a record came from a run's logger or one below it."""
    return record.name.startswith((FLOW_RUNS, TASK_RUNS))


def run_of(record: logging.LogRecord) -> Run | None:
    """Return the run that a record belongs to: the one it was made for, else the one that this code is in."""
    link = getattr(record, "run_link", None)
    if isinstance(link, RunLink) and link.run is not None:
        return link.run
    around = context.current()
    return around.run if around is not None else None


def described_run(record: logging.LogRecord) -> str | None:
    """Return "Task run 'x-0'" or "Flow run 'y'" for the start of a line, or None for a record of no run."""
    task_run_name = getattr(record, "task_run_name", None)
    if task_run_name is not None:
        return f"Task run '{task_run_name}'"
    flow_run_name = getattr(record, "flow_run_name", None)
    if flow_run_name is not None:
        return f"Flow run '{flow_run_name}'"
    run = run_of(record)
    if run is None:
        return None
    return f"{'Flow' if isinstance(run, FlowRun) else 'Task'} run '{run.name}'"
