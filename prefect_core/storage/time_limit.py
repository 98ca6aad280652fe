"""Ending the wait for a store that has stopped answering."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

R = TypeVar("R")

STALL_SECONDS = 60.0
"""How long a store may give no sign of life. Slow is allowed: each part that went through is a sign."""


class Abandoned(BaseException):
    """Nobody waits any more for what this thread is doing: it should leave nothing behind."""


def within(seconds: float, work: Callable[[Callable[[], None]], R]) -> R:
    """Return what `work(moved)` returns, in a thread of its own. It is to call `moved` after each part and before what can't be undone.

    Raises what `work` raises, or `TimeoutError` if there was no such call for so long; in work that is given up `moved` raises `Abandoned`.
    """
    signs: SimpleQueue[Any] = SimpleQueue()
    is_abandoned = threading.Event()

    def moved() -> None:
        if is_abandoned.is_set():
            raise Abandoned
        signs.put(None)

    def run() -> None:
        try:
            signs.put((work(moved), None))
        except BaseException as error:
            signs.put((None, error))

    threading.Thread(target=run, name="prefect_core storage", daemon=True).start()
    try:
        outcome = None
        while outcome is None:
            outcome = signs.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer for {seconds:g} seconds") from None
    finally:
        is_abandoned.set()
    value, error = outcome
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]  # what came through the queue is the work's own
