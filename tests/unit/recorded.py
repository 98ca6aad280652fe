"""A history in memory for one test, and short ways to look into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect_core import history
from prefect_core.history.memory import MemoryStore
from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.rows import FlowRunRow, TaskRunRow


class Recorded:
    """What the runs of a test left in the history."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.recorder = StoreRecorder(self.store)

    def flow_runs(self, flow: str | None = None) -> list[FlowRunRow]:
        """Return the flow runs in the order in which they were made."""
        self.recorder.flush()
        return [row for row in reversed(self.store.flow_runs()) if flow in (None, row.flow_name)]

    def task_runs(self, task: str | None = None) -> list[TaskRunRow]:
        """Return the task runs in the order in which they were made."""
        self.recorder.flush()
        return [row for row in reversed(self.store.task_runs()) if task in (None, row.task_name)]

    def states_of(self, row: Any) -> list[str]:
        """Return the names of the states that a run went through."""
        self.recorder.flush()
        return [state.name for state in self.store.states(row.key)]

    def task_states(self, task: str) -> list[list[str]]:
        """Return the states of each run of a task."""
        return [self.states_of(row) for row in self.task_runs(task)]

    def verdicts(self, task: str) -> list[tuple[str, str]]:
        """Return what was decided about earlier results of a task's runs, and why."""
        runs = self.task_runs(task)
        return [(one.verdict, one.reason) for run in runs for one in self.store.verdicts(run.key)]

    def unfinished(self) -> list[str]:
        """Return the names of the runs that are still open: neither final nor stopped before they began."""
        rows = [*self.flow_runs(), *self.task_runs()]
        return [row.name for row in rows if row.state_type in {"RUNNING", "SCHEDULED"} or row.state_name == "Pending"]


@contextmanager
def in_memory() -> Iterator[Recorded]:
    """Record into memory for the length of the block."""
    recorded = Recorded()
    before = history.install(recorded.recorder)
    try:
        yield recorded
    finally:
        history.install(before)
        # A flush hurries the writer, which otherwise gathers for a while.
        recorded.recorder.flush()
        recorded.recorder.close()
