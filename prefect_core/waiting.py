"""Waiting: things that happen once, and blocking or awaiting until they have.

All waits of the engine and of futures go through here. A blocking wait gives the thread's slot back while it lasts (`Slot`), an await
does the same for an async body (`AsyncSlot`), and a wait that could never end is refused (`endless_waits`).
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Collection, Iterable
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

from prefect_core import endless_waits, loops
from prefect_core.stripes import Stripes

_ROUND_SECONDS = 0.1
_MANY = 16


class Slot(Protocol):
    """A place in a runner, held by the thread that runs a body."""

    def give_back(self, is_done: Callable[[], bool]) -> None:
        """Let others use the place while its holder waits; may run other bodies until `is_done()`. May be called again meanwhile."""
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


class holding:
    """Say that this thread holds `slot` for the length of the block."""

    __slots__ = ("_before", "_slot")

    def __init__(self, slot: Slot | None) -> None:
        self._slot = slot

    def __enter__(self) -> None:
        self._before, _here.slot = _here.slot, self._slot

    def __exit__(self, *_: object) -> None:
        _here.slot = self._before


def current_slot() -> Any:
    """Return the slot that this thread holds, or None."""
    return _here.slot


_locks = Stripes()


class Signal:
    """Something that happens once, and whoever wants to know of it."""

    __slots__ = ("_callbacks", "_done")

    is_hurried = False
    """Whether the thread on which it happens must not be kept: callbacks do no more than wake another one."""

    def __init__(self) -> None:
        self._done = False
        self._callbacks: list[Callable[[Any], object]] | None = None

    def done(self) -> bool:
        """Tell whether it has happened."""
        return self._done

    def hasten(self) -> None:
        """Let this thread, which is about to block until it happens, do what it can for it."""

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
        except BaseException as error:
            if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
                # Ctrl-C, most likely. On the engine's own threads nobody is there to take it.
                raise
            import logging  # a callback that fails is rare

            logging.getLogger("prefect_core.futures").exception("A callback of %r failed: %r", self, function)

    # What it takes for it to happen, so that a wait that could never end is noticed.

    def run_uid(self) -> int:
        """Return the uid of the run whose end it is, or 0."""
        return 0

    def loop_needed(self) -> object | None:
        """Return the event loop that must not be blocked for it to happen, as far as is known now."""
        return None

    def upstreams(self) -> Collection[Signal]:
        """Return what has to happen before."""
        return ()


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


class _Rest:
    """Fires `reached` when all of many things are done: waits for the last of them, then for the last that is left.

    Things mostly end in the order in which they began, so few are waited for.
    """

    __slots__ = ("_open", "_reached")

    def __init__(self, signals: Iterable[Signal], reached: Callable[[], object]) -> None:
        self._open = list(signals)
        self._reached = reached

    def __call__(self, _: Any = None) -> None:
        left = self._open
        while left:
            signal = left.pop()
            if not signal.done():
                signal.add_done_callback(self)
                return
        self._reached()


def when_done(
    signals: Collection[Signal], reached: Callable[[], object], enough: Callable[[Any], bool] | None = None
) -> None:
    """Call `reached()` when all `signals` are done, or one of them is `enough`; from the thread that learned it."""
    if enough is None and len(signals) > _MANY:
        _Rest(signals, reached)()
        return
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
    opened = Signal()
    slot = _here.slot
    is_one_enough = enough is not None or bool(needed_by)
    with endless_waits.refused(wanted, is_one_enough, timeout, slot is not None, opened.fire) as wait:
        when_done(still_open, opened.fire, enough)
        is_in_time = _block_until(opened, timeout, slot)
    if wait.refusal is not None and not _are_done(listed, enough):
        raise wait.refusal
    return is_in_time


def _are_done(signals: list[Signal], enough: Callable[[Any], bool] | None) -> bool:
    is_enough = enough is not None and any(signal.done() and enough(signal) for signal in signals)
    return is_enough or all(signal.done() for signal in signals)


def _block_until(opened: Signal, timeout: float | None, slot: Slot | None) -> bool:
    """Block this thread until `opened` has happened, its slot given back; False after `timeout` seconds."""
    latch = threading.Lock()
    latch.acquire()
    opened.add_done_callback(lambda _: latch.release())
    if slot is None or opened.done():
        return acquire(latch, timeout)
    until = None if timeout is None else time.monotonic() + timeout
    give_back = partial(slot.give_back, opened.done if until is None else lambda: _is_over(opened, until))
    try:
        give_back()
        return acquire(latch, None if until is None else max(0.0, until - time.monotonic()), give_back)
    finally:
        slot.take_again()


def _is_over(opened: Signal, until: float) -> bool:
    return opened.done() or time.monotonic() >= until


def acquire(latch: threading.Lock, timeout: float | None, between: Callable[[], object] | None = None) -> bool:
    """Wait for the latch; the main thread in rounds, since a signal that comes just before a wait for a lock does not end that wait.

    `between` is called between rounds.
    """
    left = threading.TIMEOUT_MAX if timeout is None else min(timeout, threading.TIMEOUT_MAX)
    if threading.current_thread() is not threading.main_thread():
        return latch.acquire(timeout=left)
    until = time.monotonic() + left
    while left > 0:
        if latch.acquire(timeout=min(left, _ROUND_SECONDS)):
            return True
        if between is not None:
            between()
        left = until - time.monotonic()
    return latch.acquire(blocking=False)


async def until_done(signals: Collection[Signal], enough: Callable[[Any], bool] | None = None) -> None:
    """Wait on the event loop until all are done, or one is enough."""
    still_open = [signal for signal in signals if not signal.done()]
    if still_open:
        endless_waits.refuse(still_open, enough is not None)
        flag = loops.LoopFlag()
        when_done(still_open, flag.set, enough)
        slot = async_slot.get()
        if slot is None:
            await flag.wait()
            return
        slot.give_back()
        await flag.wait()
        await slot.take_again()
