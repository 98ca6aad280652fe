"""What the recorder hands to a store in one transaction: finished rows, in columns that every store agrees on.

A store writes a batch as a whole or not at all, and writing it twice is the same as writing it once (a run and an attempt by key, the
last row wins; states and log records never change), so a batch whose commit ended in an unclear error is simply written again.

Most task runs of a large flow begin and end within one batch, with nothing to tell but their times. They travel as one `plain` row,
from which a store makes the five rows that `expand` shows: it knows a way to do so that costs half as much.
"""

from __future__ import annotations

from typing import Any

Row = tuple[Any, ...]

FLOW_RUN = (
    "key",
    "uid",
    "name",
    "flow_name",
    "flow_version",
    "entrypoint",
    "runner",
    "parameters",
    "tags",
    "parent_task_run",
    "parent_flow_run",
    "created_us",
    "started_us",
    "ended_us",
    "run_count",
    "state_type",
    "state_name",
    "state_message",
    "state_us",
)
TASK_RUN = (
    "key",
    "uid",
    "flow_run",
    "parent_task_run",
    "task_name",
    "task_key",
    "idx",
    "name",
    "tags",
    "inputs",
    "created_us",
    "started_us",
    "ended_us",
    "run_count",
    "state_type",
    "state_name",
    "state_message",
    "state_us",
    "worker",
)
ATTEMPT = ("run", "attempt", "started_us", "ended_us", "state_type", "state_name", "worker")
STATE = ("run", "seq", "attempt", "type", "name", "message", "timestamp_us", "details")
LOG = ("key", "run", "level", "logger", "message", "timestamp_us")
PLAIN = (
    "key",
    "uid",
    "flow_run",
    "task_name",
    "task_key",
    "idx",
    "inputs",
    "created_us",
    "started_us",
    "ended_us",
    "worker",
)
"""Columns of a task run without tags, name or parent task run of its own, that went Pending, Running, Completed in one attempt."""


class Batch:
    """Rows of one transaction, each list in the columns named above."""

    __slots__ = ("attempts", "flow_runs", "incomplete", "logs", "plain", "states", "task_runs")

    def __init__(self) -> None:
        self.flow_runs: list[Row] = []
        self.task_runs: list[Row] = []
        self.attempts: list[Row] = []
        self.states: list[Row] = []
        self.logs: list[Row] = []
        self.plain: list[Row] = []
        self.incomplete: tuple[int, int] | None = None
        """Since when (wall microseconds) rows are missing, and how many went missing: set when writing works again."""

    def __len__(self) -> int:
        """Return how many rows are to be written."""
        rows = sum(map(len, (self.flow_runs, self.task_runs, self.attempts, self.states, self.logs)))
        return rows + 5 * len(self.plain) + (self.incomplete is not None)


def expand(row: Row) -> tuple[Row, Row, list[Row]]:
    """Return the task run, the attempt and the states that a plain row stands for."""
    key, uid, flow_run, task_name, task_key, idx, inputs, created_us, started_us, ended_us, worker = row
    run: Row = (key, uid, flow_run, None, task_name, task_key, idx, None, None, inputs)
    run += (created_us, started_us, ended_us, 1, "COMPLETED", "Completed", None, ended_us, worker)
    states = [
        (key, 0, 0, "PENDING", "Pending", None, created_us, None),
        (key, 1, 1, "RUNNING", "Running", None, started_us, None),
        (key, 2, 1, "COMPLETED", "Completed", None, ended_us, None),
    ]
    return run, (key, 1, started_us, ended_us, "COMPLETED", "Completed", worker), states
