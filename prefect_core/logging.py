"""The loggers of runs: `get_run_logger` inside a flow or task, `disable_run_logger` around a test of its plain function.

Setting the standard library's logger `prefect_core` up as one likes, before the first run, is all the configuration there is besides the
settings `logging_level`, `logging_task_lines` and `logging_to_history`.
"""

from __future__ import annotations

from prefect_core.logs import disable_run_logger, get_run_logger

__all__ = ["disable_run_logger", "get_run_logger"]
