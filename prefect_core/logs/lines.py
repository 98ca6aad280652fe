"""The engine's own lines about runs: created, renamed, finished, failed, tried again.

They repeat what the states in the history say, so they are shown and not kept; warnings and errors, tracebacks above all, are kept too.

So that thousands of task runs don't drown the console, lines about task runs and subflow runs are counted, for a root flow run and all
that runs inside it together. The first ones (setting `logging_task_lines`) of each kind are shown: runs created, runs completed, lines of
runs that failed, and notes on retries and hooks. Later ones are DEBUG; one line says when that begins, and a flow run whose lines were held
back ends with a line that counts its task runs by state.
"""

from __future__ import annotations

import logging
import os
import threading
from types import TracebackType
from typing import Literal

from prefect_core.context import FlowRunContext, RunContext, TaskRunContext
from prefect_core.errors import NestingTooDeep, describe
from prefect_core.logs import tracebacks
from prefect_core.logs.kept import keep
from prefect_core.logs.records import fields_of, logger_name
from prefect_core.logs.setting_up import set_up
from prefect_core.runs import Run
from prefect_core.settings import Settings
from prefect_core.settings import current as settings
from prefect_core.state_kinds import COMPLETED, DEFAULT_NAMES, FAILED, PAUSED
from prefect_core.states import State

Kind = Literal["created", "completed", "failed", "notes"]

SILENT = -1
_AT_DEBUG = -2
_RAISED = "Encountered exception during execution:"
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
        return SILENT in (self.created, self.completed, self.failed, self.notes)

    def level(self, kind: Kind, level: int, context: RunContext) -> int:
        """Count a line and return the level at which to show it, 0 for not at all."""
        with _lock:
            left: int = getattr(self, kind)
            if left > 0:
                setattr(self, kind, left - 1)
                return level
            if left == 0:
                left = _AT_DEBUG if logging.getLogger(logger_name(context.run)).isEnabledFor(logging.DEBUG) else SILENT
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


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def lines_around(context: RunContext | None) -> TaskLines:
    """Return the count that the children of a run go by."""
    dispatcher = context.dispatcher if context is not None else None
    lines: TaskLines = dispatcher.lines if dispatcher is not None else _lines_outside()
    return lines


def _tell(limit: int, context: RunContext) -> None:
    flow_run = context.flow_run if isinstance(context, FlowRunContext) else context.task_run.flow_run
    root = flow_run.root if flow_run is not None else None
    message = f"Further lines about task runs are DEBUG, after {limit:,} of a kind (setting logging_task_lines)."
    _show(root, logging.INFO, message)


def engine_line(run: Run | None, level: int, message: str, error: BaseException | None = None) -> None:
    """Show a line about a run, or about none, with the traceback of `error`; from WARNING on it is kept."""
    set_up()
    _show(run, level, message, error)
    _keep(run, level, message, error)


def note(context: RunContext, level: int, message: str, error: BaseException | None = None) -> None:
    """Do the same for a line that every task run or subflow run may have, counted with others of its kind."""
    shown = level if _is_root(context) else _counted(context, "failed" if level >= logging.WARNING else "notes", level)
    if shown:
        _show(context.run, shown, message, error)
    _keep(context.run, level, message, error)


def flow_created(context: FlowRunContext) -> None:
    """Say that there is a new flow run; of a subflow run in the name of the run around it."""
    run, parent = context.flow_run, context.parent
    if parent is None:
        set_up()
        _show(None, logging.INFO, f"Created flow run {run.name!r} for flow {run.flow_name!r}")
    elif level := _counted(context, "created", logging.INFO):
        _show(parent.run, level, f"Created subflow run {run.name!r} for flow {run.flow_name!r}")


def flow_renamed(context: FlowRunContext, before: str) -> None:
    """Say that a flow run got the name that its flow's template makes."""
    if context.flow_run.name != before:
        note(context, logging.INFO, f"Renamed flow run {before!r} to {context.flow_run.name!r}")


def flow_started(context: FlowRunContext) -> None:
    """Say which runner an attempt of a flow run uses."""
    level = logging.INFO if context.parent is None else logging.DEBUG
    _show(context.flow_run, level, f"Using task runner {context.dispatcher.runner.name!r}")


def flow_failed(context: FlowRunContext, error: BaseException) -> None:
    """Show what a flow's body raised, with its traceback, unless a subflow in it raised and showed it."""
    if context.dispatcher.tally.has_told(error):
        note(context, logging.ERROR, f"A subflow run raised {describe(error)}")
    elif not _is_passed_deadline(error):
        note(context, logging.ERROR, _RAISED, error)


def flow_finished(context: FlowRunContext, state: State) -> None:
    """Say how a flow run ended, and how many of its task runs did if their lines were held back."""
    _sum_up(context)
    level = logging.INFO if state.type is COMPLETED or state.type is PAUSED else logging.ERROR
    if not _is_root(context):
        level = _counted(context, "completed" if level == logging.INFO else "failed", level)
    if level:
        _show(context.flow_run, level, f"Finished in state {state}")


def task_created(context: TaskRunContext) -> None:
    """Say that there is a new task run, in the name of its flow run."""
    flow_context = context.flow_context
    dispatcher = flow_context.dispatcher if flow_context is not None else context.outside
    lines = dispatcher.lines if dispatcher is not None else _lines_outside()
    if lines.created != SILENT:
        run = context.task_run
        level = lines.level("created", logging.INFO, context)
        if level:
            _show(run.flow_run, level, f"Created task run {run.name!r} for task {run.task_name!r}")


def task_finished(context: TaskRunContext, state: State) -> None:
    """Say how a task run ended; with the traceback, if its body raised."""
    flow_context = context.flow_context
    dispatcher = flow_context.dispatcher if flow_context is not None else context.outside
    lines = dispatcher.lines if dispatcher is not None else _lines_outside()
    if state.type is COMPLETED:
        if lines.completed != SILENT and (level := lines.level("completed", logging.INFO, context)):
            _show(context.task_run, level, f"Finished in state {state}")
        return
    level = lines.level("failed", logging.ERROR, context)
    error = state.data
    if (
        state.type is FAILED
        and isinstance(error, Exception)
        and error.__traceback__ is not None
        and not _is_passed_deadline(error)
        # At each of hundreds of levels it would hold the frames of all levels below; its message says it all.
        and not isinstance(error, NestingTooDeep)
    ):
        _keep(context.task_run, logging.ERROR, _RAISED, error)
        if level:
            _show(context.task_run, level, _RAISED, error)
    if level:
        _show(context.task_run, level, f"Finished in state {state}")


def _sum_up(context: FlowRunContext) -> None:
    dispatcher = context.dispatcher
    if dispatcher is None or not dispatcher.lines.were_held_back:
        return
    counts = dispatcher.tally.counts
    total = sum(counts.values())
    # A subflow run has a sum of its own only if it is large, since there may be thousands of small ones.
    if total > (0 if context.parent is None else dispatcher.lines.limit):
        ends = ", ".join(f"{count:,} {DEFAULT_NAMES[kind]}" for kind, count in counts.items())
        _show(
            context.flow_run,
            logging.INFO,
            f"{total:,} task {'run' if total == 1 else 'runs'} ended: {ends}; not all were shown",
        )


def _is_root(context: RunContext) -> bool:
    return isinstance(context, FlowRunContext) and context.parent is None


def _counted(context: RunContext, kind: Kind, level: int) -> int:
    around = context if isinstance(context, TaskRunContext) else context.parent
    return lines_around(around).level(kind, level, context)


def _show(run: Run | None, level: int, message: str, error: BaseException | None = None) -> None:
    logger = logging.getLogger(logger_name(run))
    if not logger.isEnabledFor(level):
        return
    extra = {**(fields_of(run) if run is not None else {}), "send_to_api": False}
    text = tracebacks.text_in_worker(error) if error is not None else None
    if text is None:
        logger.log(level, message, exc_info=_exc_info(error), extra=extra)
        return
    record = logger.makeRecord(logger.name, level, __file__, 0, message, (), _exc_info(error), extra=extra)
    record.exc_text = text
    logger.handle(record)


def _keep(run: Run | None, level: int, message: str, error: BaseException | None) -> None:
    if level >= logging.WARNING:
        keep(run, level, logger_name(run), message if error is None else f"{message}\n{tracebacks.text_of(error)}")


def _exc_info(error: BaseException | None) -> tuple[type[BaseException], BaseException, TracebackType | None] | None:
    return None if error is None else (type(error), error, tracebacks.users_part(error.__traceback__))


def _is_passed_deadline(error: BaseException) -> bool:
    """Tell whether the engine made the error; the state's message says all there is to say."""
    raised_here = isinstance(error, TimeoutError) and tracebacks.users_part(error.__traceback__) is None
    return raised_here and tracebacks.text_in_worker(error) is None
