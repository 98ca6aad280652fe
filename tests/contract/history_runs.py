"""Makes runs and moves them as the engine does, for tests of the history."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from prefect_core.history import HistoryStore, Recorder
from prefect_core.history.memory import MemoryStore
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.runs import FlowRun, Run, TaskRun
from prefect_core.state_kinds import COMPLETED, FINAL, PENDING, RUNNING, StateType
from prefect_core.states import State

KINDS: dict[str, Callable[[Path], HistoryStore]] = {
    "memory": lambda _: MemoryStore(),
    "sqlite": lambda home: SqliteStore(home / "home"),
}


def begin_flow_run(recorder: Recorder, name: str = "calm-otter", flow: str = "etl", **fields: Any) -> FlowRun:
    """Create a flow run in Pending."""
    tags = fields.pop("tags", frozenset())
    run = FlowRun(State(PENDING), name, flow, tags, fields.pop("parent_task_run", None))
    for field, value in fields.items():
        setattr(run, field, value)
    recorder.created(run)
    return run


def begin_task_run(
    recorder: Recorder, flow_run: FlowRun | None, task: str = "load", index: int = 0, **fields: Any
) -> TaskRun:
    """Create a task run in Pending."""
    run = TaskRun(State(PENDING), task, f"module.{task}", flow_run, index, fields.pop("tags", frozenset()))
    for field, value in fields.items():
        setattr(run, field, value)
    recorder.created(run)
    return run


def enter(recorder: Recorder, run: Run, kind: StateType, name: str | None = None, message: str | None = None) -> State:
    """Move a run to a new state, in the order of updates that the engine keeps."""
    state = State(kind, name, message)
    state.timestamp_us = max(state.timestamp_us, run.state.timestamp_us + 1)
    if kind is RUNNING:
        run.run_count += 1
        run.attempt += 1
        run.started_us = run.started_us or state.timestamp_us
    elif kind in FINAL:
        run.ended_us = state.timestamp_us
    run.state = state
    recorder.entered(run, state)
    return state


def run_and_complete(recorder: Recorder, run: TaskRun, worker: str = "host:2") -> None:
    """Move a run whose body ran elsewhere to Running and Completed, as the engine does when it first hears of both."""
    state = State(COMPLETED)
    run.attempt += 1
    run.run_count += 1
    run.started_us = run.started_us or run.state.timestamp_us + 1
    run.worker = worker
    run.ended_us = state.timestamp_us = max(state.timestamp_us, run.state.timestamp_us + 2)
    started_us, run.state = run.state.timestamp_us + 1, state
    recorder.ran(run, started_us, state)


def go_through(recorder: Recorder, run: Run, kinds: Iterable[StateType]) -> None:
    """Move a run through states with default names."""
    for kind in kinds:
        enter(recorder, run, kind)
