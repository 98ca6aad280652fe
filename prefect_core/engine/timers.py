"""One thread that calls functions later: retry delays and deadlines of runs that no thread waits for."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
from collections.abc import Callable

from prefect_core import clock


class Timer:
    """A call in the future, until it is cancelled."""

    __slots__ = ("cancelled", "function")

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function
        self.cancelled = False

    def cancel(self) -> None:
        """Keep it from being called, if it has not been, and let its function go."""
        self.cancelled = True
        self.function = _nothing


def _nothing() -> None:
    """Stand for a function that was let go."""


class _Timers:
    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None
        self._clock = clock.current()  # the one that the thread waits on

    def after(self, seconds: float, function: Callable[[], object]) -> Timer:
        timer = Timer(function)
        due = clock.current().monotonic() + seconds
        with self._changed:
            heapq.heappush(self._heap, (due, next(self._order), timer))
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="prefect-core-timers", daemon=True)
                self._thread.start()
            elif self._heap[0][2] is timer or self._clock is not clock.current():
                self._changed.notify()
        return timer

    def _serve(self) -> None:
        while True:
            self._next().function()

    def _next(self) -> Timer:
        with self._changed:
            while True:
                if not self._heap:
                    self._changed.wait()
                    continue
                due, _, timer = self._heap[0]
                if timer.cancelled or due <= clock.current().monotonic():
                    heapq.heappop(self._heap)
                    if not timer.cancelled:
                        return timer
                else:
                    self._clock = clock.current()
                    self._clock.wait_until(self._changed, due)


_timers = _Timers()


def after(seconds: float, function: Callable[[], object]) -> Timer:
    """Call `function()` on the timer thread after some seconds. It must neither raise nor block for long."""
    return _timers.after(seconds, function)


def _renew() -> None:
    global _timers
    _timers = _Timers()


os.register_at_fork(after_in_child=_renew)
