"""The one place that asks the time, so that a test can answer instead.

Two scales, never mixed: *wall* time in whole microseconds since 1970 UTC, for what people read in the history, and *monotonic*
seconds, for every duration and deadline.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """What the engine needs of time."""

    def now_us(self) -> int:
        """Return wall time in microseconds since 1970 UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""
        ...

    async def asleep(self, seconds: float) -> None:
        """Let seconds pass on the event loop that runs here."""
        ...

    def wait_until(self, condition: threading.Condition, moment: float) -> None:
        """Wait on a condition, which the caller holds, until it is notified or `monotonic()` has reached `moment`."""
        ...


class SystemClock:
    """The machine's own clock."""

    __slots__ = ()

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        import anyio  # only async code comes here

        await anyio.sleep(seconds)

    def wait_until(self, condition: threading.Condition, moment: float) -> None:
        condition.wait(max(0.0, moment - time.monotonic()))


_clock: Clock = SystemClock()


def current() -> Clock:
    """Return the clock in use."""
    return _clock


def is_real() -> bool:
    """Tell whether time passes by itself: no test has put another clock in the place of the system's."""
    return type(_clock) is SystemClock


def install(clock: Clock) -> Clock:
    """Make `clock` the one in use and return the one it replaces."""
    global _clock
    previous, _clock = _clock, clock
    return previous


def now_us() -> int:
    """Return wall time in microseconds since 1970 UTC."""
    return _clock.now_us()


def to_datetime(microseconds: int) -> datetime:
    """Turn wall microseconds into an aware UTC datetime, without the rounding of floats."""
    return _EPOCH + timedelta(microseconds=microseconds)


def from_datetime(moment: datetime) -> int:
    """Turn a datetime into wall microseconds; one without a zone is taken as UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)
