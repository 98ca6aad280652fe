"""prefect_core: plain Python functions become flows and tasks, run where you choose, and every run is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import prefect_core.runtime as runtime
    from prefect_core.annotations import allow_failure, opaque, quote, unmapped
    from prefect_core.cancelling import acancel_flow_run, acancel_task_run, cancel_flow_run, cancel_task_run
    from prefect_core.context import tags
    from prefect_core.flows import Flow, flow
    from prefect_core.futures import PrefectFuture, as_completed, wait
    from prefect_core.logs import get_run_logger
    from prefect_core.pausing import pause_flow_run, resume_flow_run, suspend_flow_run
    from prefect_core.reasons import why
    from prefect_core.states import State
    from prefect_core.tasks import Task, task

__version__ = "0.1.0"

__all__ = [
    "Flow",
    "PrefectFuture",
    "State",
    "Task",
    "acancel_flow_run",
    "acancel_task_run",
    "allow_failure",
    "as_completed",
    "cancel_flow_run",
    "cancel_task_run",
    "flow",
    "get_run_logger",
    "opaque",
    "pause_flow_run",
    "quote",
    "resume_flow_run",
    "runtime",
    "suspend_flow_run",
    "tags",
    "task",
    "unmapped",
    "wait",
    "why",
]

# Names are loaded when first used, so that reading settings or listing runs loads no engine.
_HOMES = {
    "Flow": "flows",
    "PrefectFuture": "futures",
    "State": "states",
    "Task": "tasks",
    "acancel_flow_run": "cancelling",
    "acancel_task_run": "cancelling",
    "allow_failure": "annotations",
    "as_completed": "futures",
    "cancel_flow_run": "cancelling",
    "cancel_task_run": "cancelling",
    "flow": "flows",
    "get_run_logger": "logs",
    "opaque": "annotations",
    "pause_flow_run": "pausing",
    "quote": "annotations",
    "resume_flow_run": "pausing",
    "suspend_flow_run": "pausing",
    "tags": "context",
    "task": "tasks",
    "unmapped": "annotations",
    "wait": "futures",
    "why": "reasons",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "runtime":
        return import_module("prefect_core.runtime")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"prefect_core.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
