"""Waiting: things that happen once, and blocking or awaiting until they have.

All waits of the engine and of futures go through here. A blocking wait gives the thread's slot back while it lasts (`Slot`), an await
does the same for an async body (`AsyncSlot`), and a wait that could never end, because it blocks the very event loop that the run needs
or waits for the run it stands in, is refused.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from prefect_core import context, loops
from prefect_core.errors import BlockingWaitError
from prefect_core.stripes import Stripes

_ROUND_SECONDS = 0.5


class Slot(Protocol):
    """A place in a runner, held by the thread that runs a body."""

    def give_back(self, is_done: Callable[[], bool]) -> None:
        """Let others use the place while its holder waits; may run other bodies until `is_done()`."""
        ...

    def take_again(self) -> None:
        """Block until the place is free again."""
        ...


class AsyncSlot(Protocol):
    """A place in a runner, held by an async body."""

    def give_back(self) -> None:
        """Let others use the place while its holder awaits."""
        ...

    async def take_again(self) -> None:
        """Wait until there is a place again."""
        ...


async_slot: ContextVar[AsyncSlot | None] = ContextVar("prefect_core.slot", default=None)
"""The place of the async body that this code is in."""


class _Here(threading.local):
    slot: Slot | None = None


_here = _Here()


@contextmanager
def holding(slot: Slot | None) -> Iterator[None]:
    """Say that this thread holds `slot` for the length of the block."""
    before, _here.slot = _here.slot, slot
    try:
        yield
    finally:
        _here.slot = before


def current_slot() -> Any:
    """Return the slot that this thread holds, or None."""
    return _here.slot


_locks = Stripes()


class Signal:
    """Something that happens once, and whoever wants to know of it."""

    __slots__ = ("_callbacks", "_done")

    def __init__(self) -> None:
        self._done = False
        self._callbacks: list[Callable[[Any], object]] | None = None

    def done(self) -> bool:
        """Tell whether it has happened."""
        return self._done

    def add_done_callback(self, function: Callable[[Any], object]) -> None:
        """Call `function(self)` once it has happened; at once, on this thread, if it has already."""
        with _locks.of(self):
            if not self._done:
                if self._callbacks is None:
                    self._callbacks = [function]
                else:
                    self._callbacks.append(function)
                return
        self._call(function)

    def fire(self) -> bool:
        """Let it happen and run the callbacks; False if it had happened before."""
        with _locks.of(self):
            if self._done:
                return False
            self._done = True
            callbacks, self._callbacks = self._callbacks, None
        if callbacks:
            for function in callbacks:
                self._call(function)
        return True

    def _call(self, function: Callable[[Any], object]) -> None:
        try:
            function(self)
        except Exception:
            import logging  # a callback that fails is rare

            logging.getLogger("prefect_core.futures").exception("A callback of %r failed: %r", self, function)

    def needs_loop(self, loop: object) -> bool:
        """Tell whether it can't happen while `loop` is blocked."""
        return False

    def is_one_of(self, run_uids: Collection[int]) -> bool:
        """Tell whether it is the end of one of these runs."""
        return False


def check_timeout(timeout: float | None) -> None:
    """Raise `ValueError` for a negative number of seconds."""
    if timeout is not None and timeout < 0:
        raise ValueError(f"'timeout' must be a non-negative number, got {timeout!r}")


class _Countdown:
    """Fires `reached` when `count` things have called it, or one of them is `enough`."""

    __slots__ = ("_arrivals", "_enough", "_last", "_reached")

    def __init__(self, count: int, reached: Callable[[], object], enough: Callable[[Any], bool] | None) -> None:
        self._arrivals = itertools.count(1)
        self._last = count
        self._reached = reached
        self._enough = enough

    def __call__(self, signal: Any) -> None:
        # Taking the next number is atomic, so exactly one arrival is the last.
        last = next(self._arrivals) == self._last
        if last or (self._enough is not None and self._enough(signal)):
            self._reached()


def when_done(
    signals: Collection[Signal], reached: Callable[[], object], enough: Callable[[Any], bool] | None = None
) -> None:
    """Call `reached()` when all `signals` are done, or one of them is `enough`; from the thread that learned it."""
    countdown = _Countdown(len(signals), reached, enough)
    for signal in signals:
        signal.add_done_callback(countdown)


def block_until_done(
    signals: Iterable[Signal],
    timeout: float | None = None,
    enough: Callable[[Any], bool] | None = None,
    needed_by: Iterable[Signal] = (),
) -> bool:
    """Block this thread until all are done (or one is enough) and return True, or return False after `timeout` seconds.

    `needed_by` are what the signals stand for, where those are not the futures themselves. Raises `BlockingWaitError` for a wait that
    could never end.
    """
    check_timeout(timeout)
    listed = list(signals)
    still_open = [signal for signal in listed if not signal.done()]
    if not still_open or (enough is not None and any(signal.done() and enough(signal) for signal in listed)):
        return True
    if timeout == 0:
        return False
    wanted = still_open if not needed_by else [signal for signal in needed_by if not signal.done()]
    _refuse_endless_wait(wanted, one_is_enough=enough is not None or bool(needed_by))
    latch = threading.Lock()
    latch.acquire()
    opened = Signal()
    opened.add_done_callback(lambda _: latch.release())
    when_done(still_open, opened.fire, enough)
    slot = _here.slot
    if slot is None or opened.done():
        return acquire(latch, timeout)
    slot.give_back(opened.done)
    try:
        return acquire(latch, timeout)
    finally:
        slot.take_again()


def acquire(latch: threading.Lock, timeout: float | None) -> bool:
    """Wait for the latch; the main thread in rounds, since a signal that comes just before a wait for a lock does not end that wait."""
    left = threading.TIMEOUT_MAX if timeout is None else min(timeout, threading.TIMEOUT_MAX)
    if threading.current_thread() is not threading.main_thread():
        return latch.acquire(timeout=left)
    while left > 0:
        if latch.acquire(timeout=min(left, _ROUND_SECONDS)):
            return True
        left -= _ROUND_SECONDS
    return False


def _refuse_endless_wait(signals: Collection[Signal], one_is_enough: bool) -> None:
    """Raise `BlockingWaitError` if this wait could never end; of several, where one is enough, if that is true of each."""
    _refuse_waiting_for_oneself(signals, one_is_enough)
    loop = loops.running_loop()
    if loop is None:
        return
    stuck = [signal for signal in signals if signal.needs_loop(loop)]
    if stuck and (not one_is_enough or len(stuck) == len(signals)):
        raise BlockingWaitError(
            f"Waiting for {stuck[0]!r} here would block the event loop that has to run it, for ever. "
            "Use `await future` (or `await futures` for the list that map returns) instead of .result() or .wait()."
        )


def _refuse_waiting_for_oneself(signals: Collection[Signal], one_is_enough: bool) -> None:
    around = context.current()
    if around is None:
        return
    runs = set(context.lineage(around))
    own = [signal for signal in signals if signal.is_one_of(runs)]
    if own and (not one_is_enough or len(own) == len(signals)):
        raise BlockingWaitError(
            f"{own[0]!r} was waited for by code that runs inside it. A run that waits for itself would never end: return the value instead."
        )


async def until_done(signals: Collection[Signal], enough: Callable[[Any], bool] | None = None) -> None:
    """Wait on the event loop until all are done, or one is enough."""
    still_open = [signal for signal in signals if not signal.done()]
    if still_open:
        _refuse_waiting_for_oneself(still_open, one_is_enough=enough is not None)
        flag = loops.LoopFlag()
        when_done(still_open, flag.set, enough)
        slot = async_slot.get()
        if slot is None:
            await flag.wait()
            return
        slot.give_back()
        await flag.wait()
        await slot.take_again()
