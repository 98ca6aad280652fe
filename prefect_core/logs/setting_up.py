"""Handlers and level of our loggers, set when the first line is to be logged and never on anybody else's logger.

Records go on to the root logger, so that a program's own handlers and pytest's caplog see them. A program that gives the logger
`prefect_core` a level or handlers of its own keeps them.
"""

from __future__ import annotations

import logging
import os
import threading

from prefect_core.logs.console import ConsoleHandler
from prefect_core.logs.kept import KeepingHandler
from prefect_core.logs.records import FLOW_RUNS, TASK_RUNS
from prefect_core.settings import Settings
from prefect_core.settings import current as settings

_lock = threading.Lock()
_applied: Settings | None = None
_level_set = logging.NOTSET


def set_up() -> None:
    """Apply the settings in force, if that has not been done."""
    if settings() is not _applied:
        with _lock:
            _apply(settings())


def _apply(now: Settings) -> None:
    global _applied, _level_set
    top = logging.getLogger("prefect_core")
    if top.level == _level_set:
        top.setLevel(now.logging_level)
        _level_set = top.level
    if not top.handlers:
        top.addHandler(ConsoleHandler())
    for name in (FLOW_RUNS, TASK_RUNS):
        logger = logging.getLogger(name)
        if not any(isinstance(handler, KeepingHandler) for handler in logger.handlers):
            logger.addHandler(KeepingHandler())
    _applied = now


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)
