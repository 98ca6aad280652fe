"""Log records that are kept with their run in the history.

Kept are records of the runs' loggers and of any logger below them, whatever the console shows. The engine names the place
(`keep_with`), since the history stands above this room.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from prefect_core import clock
from prefect_core.logs.records import run_of
from prefect_core.runs import Run
from prefect_core.settings import current as settings

Sink = Callable[[Run | None, int, str, str, int], None]
"""Takes a run, a level, the logger's name, the text and the moment in wall microseconds."""

MOST_BYTES = 1_000_000
"""Longest text of one record, in UTF-8."""

_sink: Sink | None = None


def keep_with(sink: Sink) -> None:
    """Name what takes the records to the history."""
    global _sink
    _sink = sink


def keep(run: Run | None, level: int, logger: str, text: str, timestamp_us: int | None = None) -> None:
    """Have a text kept with a run, unless the setting `logging_to_history` is off; its moment is now, if none is given."""
    if _sink is not None and settings().logging_to_history:
        _sink(run, level, logger, within_bounds(text), timestamp_us or clock.now_us())


def within_bounds(text: str) -> str:
    """Return the text, cut off with a note if it is too long, without characters that can't be written as UTF-8."""
    if len(text) <= MOST_BYTES and text.isascii():
        return text
    encoded = text.encode("utf-8", "backslashreplace")
    kept = encoded[:MOST_BYTES].decode("utf-8", "ignore")
    return kept if len(encoded) <= MOST_BYTES else f"{kept}... [cut off: the record had {len(encoded):,} bytes]"


class KeepingHandler(logging.Handler):
    """Keeps each record, but those with `extra={"send_to_api": False}`."""

    def __init__(self) -> None:
        super().__init__()
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "send_to_api", True) is False:
            return
        try:
            # A record that was made in another process says when.
            timestamp_us = getattr(record, "timestamp_us", None)
            keep(run_of(record), record.levelno, record.name, self._formatter.format(record), timestamp_us)
        except Exception:
            self.handleError(record)
