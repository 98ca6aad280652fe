"""Log records that cross from a worker process to the process of their flow.

In the worker one handler takes all records of ours, makes them picklable and sends them; nothing is shown or kept there. In the flow's
process `arrive` hands each to the logger of the same name, so that the console, the history and a program's own handlers get it as if it
had been made there.
"""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable

from prefect_core import clock
from prefect_core.logs.records import FLOW_RUNS, TASK_RUNS, RunLink
from prefect_core.logs.setting_up import set_up
from prefect_core.runs import Run

Send = Callable[[logging.LogRecord], None]


class _SendingHandler(logging.Handler):
    def __init__(self, send: Send) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(picklable(record))
        except Exception:
            self.handleError(record)


def send_with(send: Send) -> None:
    """Let all records of our loggers go to `send`, picklable, for the rest of this process; for a worker, at its start."""
    set_up()
    for name in (FLOW_RUNS, TASK_RUNS):
        logging.getLogger(name).handlers.clear()
    top = logging.getLogger("prefect_core")
    top.handlers[:] = [_SendingHandler(send)]
    # A worker made by fork has its parent's handlers on the root logger.
    top.propagate = False


def picklable(record: logging.LogRecord) -> logging.LogRecord:
    """Return a copy with its message and traceback as text; extra fields that can't be pickled become their `repr`."""
    sent = copy.copy(record)
    sent.message = sent.msg = record.getMessage()
    sent.args = None
    sent.timestamp_us = clock.now_us()
    if record.exc_info and not record.exc_text:
        sent.exc_text = logging.Formatter().formatException(record.exc_info)
    sent.exc_info = None
    for name, value in list(vars(sent).items()):
        try:
            pickle.dumps(value)
        except Exception:
            setattr(sent, name, repr(value))
    return sent


def arrive(record: logging.LogRecord, run: Run | None) -> None:
    """Take in a record that a worker sent; it belongs to `run`."""
    set_up()
    record.run_link = RunLink(run)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
