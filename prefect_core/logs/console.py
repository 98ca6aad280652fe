"""Lines on the console, in one form:

    15:11:23.594 | INFO    | Flow run 'benevolent-donkey' - Finished in state Completed()

The handler stands on the logger `prefect_core` and writes to sys.stderr, looked up anew for each line. It is silent where the program
shows records itself: a handler on the root logger that writes to the terminal gets the same records, and would double every line.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any

from prefect_core.logs import streams
from prefect_core.logs.records import described_run, is_about_runs

_COLOURS = {
    logging.DEBUG: "2",
    logging.INFO: "36",
    logging.WARNING: "33",
    logging.ERROR: "31",
    logging.CRITICAL: "1;31",
}


class LineFormatter(logging.Formatter):
    """Formats a record as one line, with the traceback below it if there is one."""

    def __init__(self, coloured: bool) -> None:
        super().__init__()
        self._coloured = coloured

    def formatMessage(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname:<7}"
        colour = _COLOURS.get(record.levelno) if self._coloured else None
        if colour is not None:
            level = f"\x1b[{colour}m{level}\x1b[0m"
        subject = (described_run(record) if is_about_runs(record) else None) or record.name
        return f"{moment}.{int(record.msecs):03d} | {level} | {subject} - {record.message}"


class ConsoleHandler(logging.Handler):
    """Writes lines to sys.stderr, with colours only on a terminal, and never where NO_COLOR is set."""

    def __init__(self) -> None:
        super().__init__()
        self._plain = LineFormatter(coloured=False)
        self._coloured = LineFormatter(coloured=True)

    def emit(self, record: logging.LogRecord) -> None:
        stream = streams.behind(sys.stderr)
        if stream is None or _root_writes_to_terminal():
            return
        try:
            formatter = self._coloured if _shows_colours(stream) else self._plain
            stream.write(formatter.format(record) + "\n")
            stream.flush()
        except Exception:
            self.handleError(record)


def _shows_colours(stream: Any) -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and bool(stream.isatty())


def _root_writes_to_terminal() -> bool:
    handlers = logging.getLogger().handlers
    return bool(handlers) and any(map(_writes_to_terminal, handlers))


def _writes_to_terminal(handler: logging.Handler) -> bool:
    # The handlers of rich have a `console` instead of a stream.
    stream = streams.behind(getattr(handler, "stream", None))
    terminal = {id(streams.behind(one)) for one in (sys.stdout, sys.stderr)} | {id(sys.__stdout__), id(sys.__stderr__)}
    return hasattr(handler, "console") or (stream is not None and id(stream) in terminal)
