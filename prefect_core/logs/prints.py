"""What a run prints, logged at INFO where `log_prints` says so: whole lines, and those of one `print` as one record.

The streams are stood in for (`streams`) only while a body whose prints are logged runs somewhere in the process. Whatever the body
writes to sys.stdout or sys.stderr counts as printed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prefect_core.context import RunContext
from prefect_core.logs import streams
from prefect_core.logs.run_logger import RunLogger, is_disabled, logger_of

_MOST_PIECES = 10_000
_FRAMES_TO_PRINT = 5
"""From `_log` to the code that called print, which the record names as its place."""


class _Here(threading.local):
    is_logging = False


_here = _Here()


class _Printed:
    """What one run has printed and not yet ended with a newline, by thread and stream."""

    def __init__(self, around: RunContext) -> None:
        self._around = around
        self._logger: RunLogger | None = None
        self._pieces: dict[tuple[int, str], list[str]] = {}

    def add(self, stream: str, text: str) -> None:
        if not text:
            return
        key = (threading.get_ident(), stream)
        pieces = self._pieces.setdefault(key, [])
        pieces.append(text)
        if text.endswith("\n") or len(pieces) >= _MOST_PIECES:
            whole = "".join(pieces).removesuffix("\n")
            pieces.clear()
            self._log(whole)

    def close(self) -> None:
        """Log what is left without a newline."""
        for pieces in list(self._pieces.values()):
            if pieces:
                self._log("".join(pieces))

    def _log(self, text: str) -> None:
        if self._logger is None:
            self._logger = logger_of(self._around)
        # A handler that prints must not log its prints.
        before, _here.is_logging = _here.is_logging, True
        try:
            self._logger.info(text, stacklevel=_FRAMES_TO_PRINT)
        finally:
            _here.is_logging = before


_lock = threading.Lock()
_printed: dict[RunContext, _Printed] = {}


def begin(around: RunContext) -> None:
    """Log from now on what the run of `around` prints, on whatever thread its context reaches."""
    with _lock:
        _printed[around] = _Printed(around)
        streams.install(_take)


def end(around: RunContext) -> None:
    """Stop that; threads of the run that go on print to the console."""
    with _lock:
        printed = _printed.pop(around, None)
        if not _printed:
            streams.remove()
    if printed is not None:
        printed.close()


@contextmanager
def logged(around: RunContext) -> Iterator[None]:
    """Log what the run of `around` prints in the `with` block, if its `log_prints` says so and it isn't being done already."""
    if not around.log_prints or around in _printed:
        yield
        return
    begin(around)
    try:
        yield
    finally:
        end(around)


def _take(around: RunContext, stream: str, text: str) -> bool:
    printed = _printed.get(around)
    if printed is None or _here.is_logging or is_disabled():
        return False
    printed.add(stream, text)
    return True


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)
