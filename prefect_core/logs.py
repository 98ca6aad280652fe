"""Lines about runs: the engine's own, and the loggers that bodies get."""

from __future__ import annotations

import logging
from typing import Any

from prefect_core.context import FlowRunContext, TaskRunContext
from prefect_core.runs import Run
from prefect_core.states import State

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR


def task_lines_at_info() -> int:
    return 100


def engine_line(run: Run | None, level: int, message: str, exc_info: Any = None) -> None:
    logging.getLogger("prefect_core.engine").log(level, message, exc_info=exc_info)


def flow_created(context: FlowRunContext) -> None: ...
def flow_started(context: FlowRunContext) -> None: ...
def flow_finished(context: FlowRunContext, state: State) -> None: ...
def task_finished(context: TaskRunContext, state: State) -> None: ...
