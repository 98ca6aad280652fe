"""A clock that moves only when a test moves it, so that an hour's retry delay takes no time.

It drives what asks `prefect_core.clock`: moments in states, delays before retries, and the deadlines of `def` bodies that run on threads
of a runner. Waits of futures with a timeout, grace periods, and the deadlines of async bodies and of bodies on the main thread, which
the system itself interrupts, go by the machine's clock.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING

from prefect_core import clock

if TYPE_CHECKING:
    from typing import Self

_START = datetime(2030, 1, 1, tzinfo=UTC)
_ROUNDING = 1e-6


class FakeClock:
    """A `Clock` for tests; `with FakeClock() as fake:` puts it in the place of the machine's.

    Time stands still until `advance`. With `jumps=True` nobody waits: each sleep moves the time by itself and returns at once.
    Everything may be called from any thread.
    """

    def __init__(self, start: datetime = _START, jumps: bool = False) -> None:
        self.jumps = jumps
        self._start_us = clock.from_datetime(start)
        # What was planned by the machine's clock before keeps its order.
        self._origin = self._now = clock.SystemClock().monotonic()
        self._lock = threading.Condition()
        self._sleepers: dict[object, tuple[float, threading.Condition]] = {}
        self._is_released = False
        self._replaced: clock.Clock | None = None

    def now_us(self) -> int:
        return self._start_us + round((self._now - self._origin) * 1_000_000)

    def monotonic(self) -> float:
        return self._now

    @property
    def elapsed_seconds(self) -> float:
        """How far the time has moved since the clock was made."""
        return self._now - self._origin

    @property
    def sleepers(self) -> list[float]:
        """In how many seconds each waiting thread or task wants to go on, the next one first."""
        with self._lock:
            return sorted(round(moment - self._now, 6) for moment, _ in self._sleepers.values())

    def advance(self, seconds: float) -> None:
        """Move the time on and wake whoever has slept long enough. Doesn't wait for what they then do."""
        with self._lock:
            self._now += seconds
            due = [me for me, (moment, _) in self._sleepers.items() if moment <= self._now + _ROUNDING]
            # Sums of floats may miss a moment by a hair.
            self._now = max([self._now, *(self._sleepers[me][0] for me in due)])
            woken = [self._sleepers.pop(me)[1] for me in due]
        _notify(woken)

    def wait_for_sleepers(self, count: int = 1, timeout_seconds: float = 10.0) -> None:
        """Block until `count` threads or tasks sleep on this clock. Raises `TimeoutError` after seconds of the machine's time."""
        with self._lock:
            if not self._lock.wait_for(lambda: len(self._sleepers) >= count, timeout_seconds):
                raise TimeoutError(
                    f"{len(self._sleepers)} sleep on the fake clock after {timeout_seconds} s, not {count}."
                )

    def wait_for_due(self, within_seconds: float, timeout_seconds: float = 10.0) -> None:
        """Block until somebody sleeps who wants to go on `within_seconds` of this clock. Raises `TimeoutError` like the other."""
        with self._lock:
            if not self._lock.wait_for(lambda: self._is_due(within_seconds), timeout_seconds):
                raise TimeoutError(
                    f"Nobody on the fake clock wants to go on within {within_seconds} s, after {timeout_seconds} s."
                )

    def _is_due(self, within_seconds: float) -> bool:
        return any(moment <= self._now + within_seconds + _ROUNDING for moment, _ in self._sleepers.values())

    def sleep(self, seconds: float) -> None:
        alarm = threading.Condition()
        moment = self._now + seconds
        with alarm:
            while self._now < moment and not self._is_released:
                self.wait_until(alarm, moment)

    async def asleep(self, seconds: float) -> None:
        import anyio  # only async code comes here

        # The thread sleeps in the task's place; a cancelled task leaves it to the next `advance`.
        await anyio.to_thread.run_sync(self.sleep, seconds, abandon_on_cancel=True)

    def wait_until(self, condition: threading.Condition, moment: float) -> None:
        me = object()
        with self._lock:
            if self.jumps:
                self._now = max(self._now, moment)
            if moment <= self._now or self._is_released:
                return
            self._sleepers[me] = (moment, condition)
            self._lock.notify_all()
        try:
            condition.wait()
        finally:
            with self._lock:
                self._sleepers.pop(me, None)

    def __enter__(self) -> Self:
        self._replaced = clock.install(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the time back to the clock before, and wake all who sleep on this one."""
        if self._replaced is not None:
            clock.install(self._replaced)
        with self._lock:
            self._is_released = True
            sleeping = [condition for _, condition in self._sleepers.values()]
        _notify(sleeping)


def _notify(conditions: list[threading.Condition]) -> None:
    # A sleeper holds its condition until it really waits, so none is woken too early to hear it.
    for condition in conditions:
        with condition:
            condition.notify_all()
