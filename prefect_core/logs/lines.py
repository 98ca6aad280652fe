"""The engine's own lines about runs: created, renamed, finished, failed, tried again.

They repeat what the states in the history say, so they are shown and not kept; warnings and errors, tracebacks above all, are kept too.

So that thousands of task runs don't drown the console, lines about task runs and subflow runs are counted, for a root flow run and all
that runs inside it together. The first ones (setting `logging_task_lines`) of each kind are shown: runs created, runs completed, lines of
runs that failed, and notes on retries and hooks. Later ones are DEBUG; one line says when that begins, and a flow run whose lines were held
back ends with a line that counts its task runs by state.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from prefect_core.context import FlowRunContext, RunContext, TaskRunContext
from prefect_core.logs.kept import keep
from prefect_core.logs.records import ENGINE, FLOW_RUNS, fields_of, logger_name
from prefect_core.logs.setting_up import set_up
from prefect_core.runs import Run
from prefect_core.settings import Settings
from prefect_core.settings import current as settings
from prefect_core.state_kinds import COMPLETED, DEFAULT_NAMES, FAILED, PAUSED
from prefect_core.states import State

Kind = Literal["created", "completed", "failed", "notes"]

_SILENT = -1
_AT_DEBUG = -2
_OURS = (str(Path(__file__).parents[1]), "prefect_runners")
_lock = threading.Lock()


class TaskLines:
    """How many lines of each kind are left at their own level; below 0 they are not shown, or shown at DEBUG."""

    __slots__ = ("completed", "created", "failed", "has_told", "limit", "notes")

    def __init__(self) -> None:
        set_up()
        self.limit = self.created = self.completed = self.failed = self.notes = settings().logging_task_lines
        # Who sets the number to 0 knows.
        self.has_told = self.limit == 0

    @property
    def were_held_back(self) -> bool:
        """Whether some line was not shown."""
        return _SILENT in (self.created, self.completed, self.failed, self.notes)

    def level(self, kind: Kind, level: int, context: RunContext) -> int:
        """Count a line and return the level at which to show it, 0 for not at all."""
        with _lock:
            left: int = getattr(self, kind)
            if left > 0:
                setattr(self, kind, left - 1)
                return level
            if left == 0:
                left = _AT_DEBUG if logging.getLogger(logger_name(context.run)).isEnabledFor(logging.DEBUG) else _SILENT
                setattr(self, kind, left)
            must_tell, self.has_told = not self.has_told, True
        if must_tell:
            _tell(self.limit, context)
        return logging.DEBUG if left == _AT_DEBUG else 0


_outside: tuple[Settings, TaskLines] | None = None


def _lines_outside() -> TaskLines:
    """Return the count for task runs outside of flows: one for the process, begun anew with new settings."""
    global _outside
    now = settings()
    if _outside is None or _outside[0] is not now:
        _outside = (now, TaskLines())
    return _outside[1]


def lines_around(context: RunContext | None) -> TaskLines:
    """Return the count that the children of a run go by."""
    dispatcher = context.dispatcher if context is not None else None
    lines: TaskLines = dispatcher.lines if dispatcher is not None else _lines_outside()
    return lines


def _tell(limit: int, context: RunContext) -> None:
    run = context.run if isinstance(context, FlowRunContext) else context.task_run.flow_run
    _show(run, logging.INFO, f"{limit:,} task runs were shown; lines of further ones are DEBUG (setting logging_task_lines).")


def _show(run: Run | None, level: int, message: str, exc_info: Any = None) -> None:
    fields = fields_of(run) if run is not None else {}
    logging.getLogger(logger_name(run)).log(level, message, exc_info=exc_info, extra={**fields, "send_to_api": False})


def engine_line(run: Run | None, level: int, message: str, exc_info: Any = None) -> None:
    """Show a line about a run, or about none; from WARNING on it is kept. `exc_info` is an exception, or True for the one in flight."""
    set_up()
    _show(run, level, message, exc_info)
    _keep(run, level, message, exc_info)


def note(context: RunContext, level: int, message: str, exc_info: Any = None) -> None:
    """Do the same for a line that every task run or subflow run may have, counted with others of its kind."""
    parent = context if isinstance(context, TaskRunContext) else context.parent
    shown = level
    if parent is not None:
        shown = lines_around(parent).level("failed" if level >= logging.WARNING else "notes", level, context)
    if shown:
        _show(context.run, shown, message, exc_info)
    _keep(context.run, level, message, exc_info)


def _keep(run: Run | None, level: int, message: str, exc_info: Any) -> None:
    if level >= logging.WARNING:
        record = logging.LogRecord(logger_name(run), level, "", 0, message, None, None)
        if exc_info:
            probe = logging.getLogger(ENGINE).makeRecord("", level, "", 0, message, (), _as_exc_info(exc_info))
            record.exc_info = probe.exc_info
        keep(run, level, record.name, logging.Formatter().format(record))


def _as_exc_info(exc_info: Any) -> Any:
    return exc_info
