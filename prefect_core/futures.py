"""Futures: what `submit` returns, and waiting for several of them.

A future is done when its run can go no further: at a final state, or Pending/NotReady when an input failed. There is one class for all
runners. The engine finishes it from whatever thread learned the end; callbacks run there, each once, in the order they were added.

Blocking waits go through one place (`_block`), which gives the waiting thread's slot back while it waits (`Slot`), and refuses a wait
that could never end because it blocks the very event loop that the run needs.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from prefect_core import clock, context, loops
from prefect_core.errors import BlockingWaitError
from prefect_core.states import State
from prefect_core.stripes import Stripes

if TYPE_CHECKING:
    from uuid import UUID

    from prefect_core.runs import FlowRun, TaskRun

R = TypeVar("R", covariant=True)
F = TypeVar("F", bound="PrefectFuture[Any]")

FIRST_COMPLETED = "FIRST_COMPLETED"
FIRST_EXCEPTION = "FIRST_EXCEPTION"
ALL_COMPLETED = "ALL_COMPLETED"
_MOST_SHOWN = 20
"""Futures of a list that a notebook shows."""
_ROUND_SECONDS = 0.5
ReturnWhen = Literal["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"]


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

    def _needs_loop(self, loop: object) -> bool:
        """Tell whether it can't happen while `loop` is blocked."""
        return False


class PrefectFuture(Signal, Generic[R]):
    """The result of a task run that may still be under way."""

    __slots__ = ("__weakref__", "_call_in_progress", "task_run")

    def __init__(self, task_run: TaskRun, call_in_progress: Any = None) -> None:
        super().__init__()
        self.task_run = task_run
        self._call_in_progress = call_in_progress

    @property
    def task_run_id(self) -> UUID:
        """The task run's identifier."""
        return self.task_run.id

    @property
    def name(self) -> str:
        """The task run's name."""
        return self.task_run.name

    @property
    def state(self) -> State:
        """The run's state as it is now."""
        return self.task_run.state

    _kind = "Task"

    @property
    def _identity(self) -> UUID:
        return self.task_run.id

    def finish(self) -> None:
        """Mark the run as over; its record holds the state. For the engine."""
        self._call_in_progress = None
        self.fire()

    def wait(self, timeout: float | None = None) -> State | None:
        """Block until the run is over and return its state, or None if that takes more than `timeout` seconds."""
        return self.state if self._done or _block([self], timeout) else None

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """Block until the run is over and return its value, or raise what ended it.

        Raises `TimeoutError` after `timeout` seconds. With `raise_on_failure=False` the exception is returned instead.
        """
        if not self._done and not _block([self], timeout):
            raise TimeoutError(f"{self._kind} run {self._identity} did not complete within {timeout} seconds")
        value: R = self.state.result(raise_on_failure)
        return value

    def __await__(self) -> Generator[Any, Any, R]:
        if not self._done:
            yield from _until_done([self]).__await__()
        value: R = self.state.result()
        return value

    def _needs_loop(self, loop: object) -> bool:
        call = self._call_in_progress
        return call is not None and bool(call.needs_loop(loop))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.state})"

    def _repr_html_(self) -> str:
        return f"<div>Future of {self.task_run._repr_html_()}</div>"


class PrefectFlowRunFuture(PrefectFuture[R]):
    """The result of a submitted flow run; `task_run` is what stands for it in its parent."""

    __slots__ = ("flow_run",)

    _kind = "Flow"

    def __init__(self, task_run: TaskRun | None, flow_run: FlowRun, call_in_progress: Any = None) -> None:
        super().__init__(task_run, call_in_progress)  # type: ignore[arg-type]  # None outside of flows and tasks, where nothing stands for it
        self.flow_run = flow_run

    @property
    def _identity(self) -> UUID:
        return self.flow_run.id

    @property
    def flow_run_id(self) -> UUID:
        """The flow run's identifier."""
        return self.flow_run.id

    @property
    def name(self) -> str:
        return self.flow_run.name

    @property
    def state(self) -> State:
        return self.flow_run.state

    def _repr_html_(self) -> str:
        return f"<div>Future of {self.flow_run._repr_html_()}</div>"


class PrefectFutureList(list[PrefectFuture[R]]):
    """Futures in the order of their inputs; what `map` returns. Awaiting it gives the list of values."""

    def wait(self, timeout: float | None = None) -> list[State] | None:
        """Block until all are over and return their states in order, or None after `timeout` seconds."""
        _check_timeout(timeout)
        return [future.state for future in self] if _block(self, timeout) else None

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[R]:
        """Block until all are over and return their values in order, or raise the first one's exception.

        Raises `TimeoutError` after `timeout` seconds for all of them together.
        """
        _check_timeout(timeout)
        if not _block(self, timeout):
            raise TimeoutError(f"Timed out waiting for all futures to complete within {timeout} seconds")
        return [future.state.result(raise_on_failure) for future in self]

    def __await__(self) -> Generator[Any, Any, list[R]]:
        yield from _until_done(self).__await__()
        return [future.state.result() for future in self]

    def _repr_html_(self) -> str:
        shown = "".join(f"<li>{future._repr_html_()}</li>" for future in self[:_MOST_SHOWN])
        more = f"<li>and {len(self) - _MOST_SHOWN:,} more</li>" if len(self) > _MOST_SHOWN else ""
        return f"<div>{len(self):,} futures<ol start='0'>{shown}{more}</ol></div>"


class DoneAndNotDoneFutures(NamedTuple):
    """What `wait` returns."""

    done: set[PrefectFuture[Any]]
    not_done: set[PrefectFuture[Any]]


def wait(
    futures: Iterable[PrefectFuture[Any]], timeout: float | None = None, return_when: ReturnWhen = "ALL_COMPLETED"
) -> DoneAndNotDoneFutures:
    """Block until the futures are done, the first is, or the first failed; at most `timeout` seconds. Never raises for the time."""
    _check_timeout(timeout)
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION):
        raise ValueError(f"return_when must be ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION, got {return_when!r}")
    unique = dict.fromkeys(futures)
    if return_when == ALL_COMPLETED:
        _block(unique, timeout)
    else:
        failed_only = return_when == FIRST_EXCEPTION
        _block(unique, timeout, enough=lambda future: not failed_only or not future.state.is_completed())
    done = {future for future in unique if future.done()}
    return DoneAndNotDoneFutures(done, set(unique) - done)


class as_completed(Generic[F]):
    """Iterate over futures as they become done, each once, done ones first; with `for` or `async for`.

    Raises `TimeoutError` when `timeout` seconds have passed since it was made and some are not done.
    """

    def __init__(self, futures: Iterable[F], timeout: float | None = None) -> None:
        _check_timeout(timeout)
        self._unique: dict[F, None] = dict.fromkeys(futures)
        self._timeout = timeout
        self._deadline = None if timeout is None else clock.current().monotonic() + timeout
        self._arrived: list[F] = []
        self._taken = 0
        self._signal = Signal()
        for future in self._unique:
            future.add_done_callback(self._arrive)

    def _arrive(self, future: F) -> None:
        self._arrived.append(future)
        self._signal.fire()

    def _next(self) -> F | None:
        """Return the next one that has arrived; None if none has, and then `_signal` fires at the next arrival."""
        if self._taken == len(self._arrived):
            self._signal = Signal()
            if self._taken == len(self._arrived):
                return None
        future = self._arrived[self._taken]
        self._taken += 1
        return future

    def _remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - clock.current().monotonic())

    def _late(self) -> TimeoutError:
        return TimeoutError(f"{len(self._unique) - self._taken} (of {len(self._unique)}) futures unfinished")

    def __iter__(self) -> Iterator[F]:
        while self._taken < len(self._unique):
            future = self._next()
            if future is not None:
                yield future
            elif not _block([self._signal], self._remaining(), needed_by=list(self._unique)):
                raise self._late()

    async def __aiter__(self) -> AsyncIterator[F]:
        import anyio  # only async code comes here

        while self._taken < len(self._unique):
            future = self._next()
            if future is not None:
                yield future
                continue
            with anyio.move_on_after(self._remaining()) as scope:
                await _until_done([self._signal])
            if scope.cancelled_caught and not self._signal.done():
                raise self._late()


def resolve_futures_to_states(futures: Iterable[PrefectFuture[Any]]) -> list[State]:
    """Block until all are over and return their states in order."""
    listed = list(futures)
    _block(listed, None)
    return [future.state for future in listed]


def _check_timeout(timeout: float | None) -> None:
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


def _block(
    signals: Iterable[Signal],
    timeout: float | None,
    enough: Callable[[Any], bool] | None = None,
    needed_by: Iterable[Signal] = (),
) -> bool:
    """Block until all are done (or one is enough) and return True, or return False after `timeout` seconds."""
    _check_timeout(timeout)
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
        return _acquire(latch, timeout)
    slot.give_back(opened.done)
    try:
        return _acquire(latch, timeout)
    finally:
        slot.take_again()


def _acquire(latch: threading.Lock, timeout: float | None) -> bool:
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
    stuck = [signal for signal in signals if signal._needs_loop(loop)]
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
    own = [signal for signal in signals if isinstance(signal, PrefectFuture) and signal.task_run is not None and signal.task_run.uid in runs]
    if own and (not one_is_enough or len(own) == len(signals)):
        raise BlockingWaitError(
            f"{own[0]!r} was waited for by code that runs inside it. A run that waits for itself would never end: return the value instead."
        )


async def _until_done(signals: Collection[Signal], enough: Callable[[Any], bool] | None = None) -> None:
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


def block_until_done(signals: Collection[Signal], timeout: float | None = None) -> bool:
    """Block this thread, its slot given back, until all are done; False after `timeout` seconds."""
    return _block(signals, timeout)


async def until_done(signals: Collection[Signal]) -> None:
    """Wait on the event loop until all are done."""
    await _until_done(signals)
