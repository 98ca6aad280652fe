"""What the recorder hands to a store in one transaction: finished rows, in columns that every store agrees on.

A store writes a batch as a whole or not at all, and writing it twice is the same as writing it once (of runs, attempts and what finds a
stored result the last row wins; states, log records, results and verdicts never change), so a batch whose commit ended in an unclear
error is simply written again. A flow run keeps its parameters when a later row has none, `{}`.

Most task runs of a large flow have nothing to tell but their times. They travel as short rows (see `plain`), from which a store makes the
rows that `expand`, `expand_begun`, `end` and `end_unbegun` show: it may know a way to do so that costs half as much.
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
OF_RESULTS: dict[str, tuple[str, ...]] = {
    "identity": ("run", "identity", "site", "arguments", "occurrence", "given_key", "code", "problem"),
    "result": ("key", "serializer", "storage", "object", "value", "size", "sha256", "run", "created_us"),
    "kept": ("run", "attempt", "result", "inputs"),
    "cache": ("key", "result", "run", "expires_us", "created_us"),
    "unheld": ("run", "names", "result"),
    "borrowed": ("result",),
    "verdict": ("run", "at_us", "verdict", "reason"),
    "pause": (
        "run",
        "paused_us",
        "key",
        "is_suspended",
        "until_us",
        "form",
        "left_us",
        "resumed_us",
        "resumed_by",
        "input",
        "is_forgotten",
    ),
}
"""What is known of stored results, and of pauses, each kind with its columns."""
OF_ENDS: dict[str, tuple[str, ...]] = {
    "ending": ("run", "hooks", "on_crash"),
    "owed": ("run", "at_us", "process"),
    "called": ("run", "at_us", "called_by", "called_us"),
}
"""What is to be done at the ends of flow runs, and who does it (see `owed`)."""
NOTED = {**OF_RESULTS, **OF_ENDS}
"""What is written as it was told. What refers to something comes behind it."""
BEGUN = ("key", "uid", "flow_run", "task_name", "task_key", "idx", "inputs", "created_us")
"""Columns of a task run without tags, name or parent task run of its own, that is Pending."""
ENDED = ("key", "started_us", "ended_us", "worker")
"""Columns of a task run written as `BEGUN` before, that went Running and Completed in one attempt since."""
UNBEGUN = ("key", "state_type", "state_name", "state_message", "ended_us")
"""Columns of a task run written as `BEGUN` before, that ended without an attempt since."""
PLAIN = (*BEGUN, *ENDED[1:])
"""Columns of a task run that did all of this within the batch."""


class Batch:
    """Rows of one transaction, each list in the columns named above."""

    LISTS = ("attempts", "begun", "ended", "flow_runs", "logs", "plain", "states", "task_runs", "unbegun")
    __slots__ = (*LISTS, "incomplete", "of_results")

    def __init__(self) -> None:
        self.flow_runs: list[Row] = []
        self.task_runs: list[Row] = []
        self.attempts: list[Row] = []
        self.states: list[Row] = []
        self.logs: list[Row] = []
        self.plain: list[Row] = []
        self.begun: list[Row] = []
        self.ended: list[Row] = []
        self.unbegun: list[Row] = []
        self.of_results: dict[str, list[Row]] = {}
        """Rows of the tables in `NOTED`."""
        self.incomplete: tuple[int, int] | None = None
        """Since when (wall microseconds, which tells one loss from another) rows are missing, and how many went missing since."""

    def __len__(self) -> int:
        """Return how many rows are to be written."""
        rows = sum(map(len, (self.flow_runs, self.task_runs, self.attempts, self.states, self.logs)))
        rows += sum(map(len, self.of_results.values()))
        return rows + 5 * len(self.plain) + 2 * (len(self.begun) + len(self.unbegun)) + 4 * len(self.ended)


def expand_begun(row: Row) -> tuple[Row, Row]:
    """Return the task run and the state that a row in the columns `BEGUN` stands for."""
    key, uid, flow_run, task_name, task_key, idx, inputs, created_us = row
    place = (key, uid, flow_run, None, task_name, task_key, idx, None, None, inputs, created_us)
    run = (*place, None, None, 0, "PENDING", "Pending", None, created_us, "")
    return run, (key, 0, 0, "PENDING", "Pending", None, created_us, None)


def end(run: Row, row: Row) -> tuple[Row, Row, list[Row]]:
    """Return a task run as it ended, its attempt, and its two last states, of a row in the columns `ENDED`."""
    key, started_us, ended_us, worker = row
    course = (started_us, ended_us, 1, "COMPLETED", "Completed", None, ended_us, worker)
    states = [
        (key, 1, 1, "RUNNING", "Running", None, started_us, None),
        (key, 2, 1, "COMPLETED", "Completed", None, ended_us, None),
    ]
    return (*run[: -len(course)], *course), (key, 1, started_us, ended_us, "COMPLETED", "Completed", worker), states


def end_unbegun(run: Row, row: Row) -> tuple[Row, Row]:
    """Return a task run as it ended, and its last state, of a row in the columns `UNBEGUN`."""
    key, kind, name, message, ended_us = row
    course = (None, ended_us, 0, kind, name, message, ended_us, "")
    return (*run[: -len(course)], *course), (key, 1, 0, kind, name, message, ended_us, None)


def expand(row: Row) -> tuple[Row, Row, list[Row]]:
    """Return the task run, the attempt and the states that a row in the columns `PLAIN` stands for."""
    begun, state = expand_begun(row[: len(BEGUN)])
    run, attempt, states = end(begun, (row[0], *row[len(BEGUN) :]))
    return run, attempt, [state, *states]
