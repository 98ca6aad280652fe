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

    is_hurried = False
    """Whether the thread on which it happens must not be kept: callbacks do no more than wake another one."""

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
        """Return the event loop that must not be blocked for it to happen."""
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
    with _known_to_wait(wanted, enough is not None or bool(needed_by), timeout):
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


_blocked_loops: dict[object, Collection[Signal]] = {}
"""Event loops whose thread blocks now, and all that it waits for."""
_blocked_runs: dict[int, Collection[Signal]] = {}
"""Task runs whose body blocks on a thread of a runner now, by uid, and all that it waits for."""


@contextmanager
def _known_to_wait(signals: Collection[Signal], one_is_enough: bool, timeout: float | None) -> Iterator[None]:
    """Let other waits know of this one while it lasts. Raises `BlockingWaitError` if it could never end.

    First it is made known, then looked through: of two waits that block each other, at least one sees the other.
    """
    loop = loops.running_loop()
    around = context.current()
    known: dict[Any, Collection[Signal]] | None = None
    key: object = None
    if timeout is None and not one_is_enough:
        if loop is not None:
            known, key = _blocked_loops, loop
        elif around is not None and _here.slot is not None:
            known, key = _blocked_runs, around.run.uid
    if known is not None:
        known[key] = signals
    try:
        _refuse_endless_wait(signals, one_is_enough, loop, around)
        yield
    finally:
        if known is not None:
            known.pop(key, None)


def _refuse_endless_wait(
    signals: Collection[Signal], one_is_enough: bool, loop: object | None, around: context.RunContext | None
) -> None:
    """Raise `BlockingWaitError` if this wait could never end; of several, where one is enough, if that is true of each."""
    own = frozenset(context.lineage(around))
    if loop is None and not own and not _blocked_loops:
        return
    is_deep = loop is not None or bool(_blocked_loops) or (_here.slot is not None and len(_blocked_runs) > 1)
    obstacles = []
    for signal in signals:
        obstacle = _obstacle(signal, loop, own) if is_deep else _ITSELF if signal.run_uid() in own else None
        if obstacle is not None:
            obstacles.append((signal, obstacle))
            if not one_is_enough:
                break
    if obstacles and (not one_is_enough or len(obstacles) == len(signals)):
        signal, obstacle = obstacles[0]
        raise BlockingWaitError(obstacle.format(signal))


_THIS_LOOP = (
    "Waiting for {!r} here would block the event loop that has to run it, for ever. "
    "Use `await future` (or `await futures` for the list that map returns) instead of .result() or .wait()."
)
_ITSELF = "{!r} was waited for by code that runs inside it. A run that waits for itself would never end: return the value instead."
_CIRCLE = (
    "{!r} was waited for here, and it can't end before this run does: runs that wait for each other would never end. In async code, "
    "use `await future` instead of .result() or .wait(), which block the event loop."
)


def _obstacle(wanted: Signal, loop: object | None, own: Collection[int]) -> str | None:
    """Look through all that has to happen before `wanted`; return why it can't while the caller waits for it, or None."""
    seen: set[int] = set()
    ahead = [wanted]
    while ahead:
        signal = ahead.pop()
        if id(signal) in seen or signal.done():
            continue
        seen.add(id(signal))
        uid = signal.run_uid()
        if uid in own:
            return _ITSELF if signal is wanted else _CIRCLE
        needed = signal.loop_needed()
        if needed is not None:
            if needed is loop:
                return _THIS_LOOP
            ahead += _blocked_loops.get(needed, ())
        ahead += _blocked_runs.get(uid, ())
        ahead += signal.upstreams()
    return None


async def until_done(signals: Collection[Signal], enough: Callable[[Any], bool] | None = None) -> None:
    """Wait on the event loop until all are done, or one is enough."""
    still_open = [signal for signal in signals if not signal.done()]
    if still_open:
        _refuse_endless_wait(still_open, enough is not None, None, context.current())
        flag = loops.LoopFlag()
        when_done(still_open, flag.set, enough)
        slot = async_slot.get()
        if slot is None:
            await flag.wait()
            return
        slot.give_back()
        await flag.wait()
        await slot.take_again()
