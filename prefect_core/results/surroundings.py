"""The runs around a task run, and when each of them was executed anew: what makes a call one of an earlier or a later execution."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prefect_core.history.rows import FlowRunRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect_core.history import HistoryStore
    from prefect_core.history.rows import TaskRunRow


class Execution(NamedTuple):
    """A further attempt of a run around a call, in which that call may have been made again."""

    began_us: int
    run: FlowRunRow | TaskRunRow
    attempt: int


class Surroundings:
    """What is around a task run, from the inside out."""

    def __init__(self, store: HistoryStore, row: TaskRunRow) -> None:
        self.around = list(_around(store, row))
        self.executions = sorted(
            (
                Execution(attempt.started_us, run, attempt.attempt)
                for run in self.around
                for attempt in store.attempts(run.key)
                if attempt.attempt > 1
            ),
            key=lambda one: one.began_us,
        )
        """Those that made calls again, first to last."""

    @property
    def root(self) -> FlowRunRow | TaskRunRow | None:
        """The outermost run."""
        return self.around[-1] if self.around else None

    def root_flow_run(self) -> int:
        """Return the key of the flow run that no other called, for a call inside one."""
        return next(one.key for one in self.around if isinstance(one, FlowRunRow) and one.parent_flow_run is None)

    def execution_at(self, moment_us: int) -> Execution | None:
        """Return the further execution that was the last one at a moment; None in the first one."""
        return next((one for one in reversed(self.executions) if one.began_us <= moment_us), None)


def _around(store: HistoryStore, row: TaskRunRow) -> Iterator[FlowRunRow | TaskRunRow]:
    """Yield the runs that a task run was called in; a subflow run is followed by what stands for it in its parent."""
    inner: TaskRunRow | None = row
    while inner is not None:
        if inner.parent_task_run is not None:
            inner = store.task_run(inner.parent_task_run)
            yield inner
            continue
        if inner.flow_run is None:
            return
        flow_run = store.flow_run(inner.flow_run)
        yield flow_run
        inner = store.task_run(flow_run.parent_task_run) if flow_run.parent_task_run is not None else None
        if inner is not None:
            yield inner
