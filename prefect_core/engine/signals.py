"""Ctrl-C and SIGTERM while a root flow runs on the main thread.

SIGTERM, which would end Python at once, raises `TerminationSignal` there instead, so that the run can be closed. SIGINT does what it
did before; it is only noted, because an event loop turns it into a cancellation that no longer says why.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from prefect_core.errors import TerminationSignal

_noted: list[int] = []
_is_watching = False


@contextmanager
def watched() -> Iterator[None]:
    """Watch both signals for the length of the block; does nothing on other threads or inside another watch."""
    global _is_watching
    if _is_watching or threading.current_thread() is not threading.main_thread():
        yield
        return
    _is_watching = True
    _noted.clear()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupt = before[signal.SIGINT]

    def on_interrupt(number: int, frame: FrameType | None) -> Any:
        _noted.append(number)
        if callable(interrupt):
            return interrupt(number, frame)
        raise KeyboardInterrupt

    def on_terminate(number: int, _frame: FrameType | None) -> Any:
        _noted.append(number)
        raise TerminationSignal(number)

    if interrupt is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, on_interrupt)
    if before[signal.SIGTERM] is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, on_terminate)
    try:
        yield
    finally:
        _is_watching = False
        for number, previous in before.items():
            if previous is not None:
                signal.signal(number, previous)


def cause_of(error: BaseException) -> BaseException:
    """Return what is behind a cancellation: the signal that was noted during the watch, else the cancellation itself."""
    if not _noted or isinstance(error, KeyboardInterrupt | SystemExit):
        return error
    return KeyboardInterrupt() if _noted[-1] == signal.SIGINT else TerminationSignal(_noted[-1])
