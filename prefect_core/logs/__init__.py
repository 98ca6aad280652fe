"""Lines about runs: the engine's own, and the loggers that bodies get.

Everything goes through the standard library's loggers `prefect_core.engine`, `.flow_runs` and `.task_runs`. Below the first name,
`prefect_core`, stands one handler for the console (`console`); on the last two stands one that keeps records with their run in the
history (`kept`). The engine says what happened to runs (`lines`), bodies say what they like (`run_logger`, `prints`).
"""

from __future__ import annotations

import logging

from prefect_core.logs.kept import keep_with
from prefect_core.logs.lines import (
    SILENT,
    TaskLines,
    engine_line,
    flow_created,
    flow_failed,
    flow_finished,
    flow_renamed,
    flow_started,
    lines_around,
    note,
    task_created,
    task_finished,
)
from prefect_core.logs.run_logger import disable_run_logger, get_run_logger

__all__ = [
    "DEBUG",
    "ERROR",
    "INFO",
    "SILENT",
    "WARNING",
    "TaskLines",
    "disable_run_logger",
    "engine_line",
    "flow_created",
    "flow_failed",
    "flow_finished",
    "flow_renamed",
    "flow_started",
    "get_run_logger",
    "keep_with",
    "lines_around",
    "note",
    "task_created",
    "task_finished",
]

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR
