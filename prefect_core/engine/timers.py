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
    """The timers that go by one clock, and their thread."""

    def __init__(self, goes_by: clock.Clock) -> None:
        self.clock = goes_by
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None

    def after(self, seconds: float, function: Callable[[], object]) -> Timer:
        timer = Timer(function)
        due = self.clock.monotonic() + seconds
        with self._changed:
            heapq.heappush(self._heap, (due, next(self._order), timer))
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="prefect-core-timers", daemon=True)
                self._thread.start()
            elif self._heap[0][2] is timer:
                self._changed.notify()
        return timer

    def _serve(self) -> None:
        while (timer := self._next()) is not None:
            timer.function()

    def _next(self) -> Timer | None:
        """Wait for the next timer that is due; None once the clock, a test's, is gone."""
        with self._changed:
            while True:
                if not self._heap:
                    self._changed.wait()
                    continue
                due, _, timer = self._heap[0]
                if timer.cancelled or due <= self.clock.monotonic():
                    heapq.heappop(self._heap)
                    if not timer.cancelled:
                        return timer
                elif self is not _real and self.clock is not clock.current():
                    self._thread = None
                    return None
                else:
                    self.clock.wait_until(self._changed, due)


_real = _Timers(clock.SystemClock())
_of_a_test: _Timers | None = None
_choosing = threading.Lock()


def after(seconds: float, function: Callable[[], object]) -> Timer:
    """Call `function()` on the timer thread after some seconds. It must neither raise nor block for long.

    The seconds are those of the clock in use now, also once another has taken its place.
    """
    return (_real if clock.is_real() else _of(clock.current())).after(seconds, function)


def _of(one: clock.Clock) -> _Timers:
    global _of_a_test
    with _choosing:
        if _of_a_test is None or _of_a_test.clock is not one:
            _of_a_test = _Timers(one)
        return _of_a_test


def _renew() -> None:
    global _real, _of_a_test, _choosing
    _real, _of_a_test, _choosing = _Timers(clock.SystemClock()), None, threading.Lock()


os.register_at_fork(after_in_child=_renew)
