"""What `map` returns where it has a window: futures that are made as they are asked for."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from typing import Any, Generic, TypeVar

from prefect_core.futures import PrefectFuture
from prefect_core.states import State
from prefect_core.waiting import Signal, block_until_done, until_done

V = TypeVar("V")


class PrefectFutureStream(Generic[V]):
    """The futures of a `map` with a window, in order, for one iteration (`async for` where code runs on an event loop).

    At most `window` of its runs are under way, and as many may have ended of those that nobody has asked for yet. They are submitted
    ahead of the iteration, the first when the stream is made, and further ones when the iteration goes on and there is room. A future is
    given as soon as it is next, done or not: so a map over a stream goes on with each element by itself. What is left when the body of the
    flow ends is submitted then. Nothing is kept of what was given.
    """

    def __init__(
        self, submissions: Iterator[PrefectFuture[V]], window: int, filled: Callable[[], object] | None = None
    ) -> None:
        """`submissions` submits a run each time that it is asked for one; `filled` is called when there is no more room for now."""
        self._submissions = submissions
        self._window = window
        self._filled = filled
        self._context = contextvars.copy_context()
        self._ahead: deque[PrefectFuture[V]] = deque()
        self._open: dict[PrefectFuture[Any], None] = {}
        self._room: _Room | None = None
        self._lock = threading.Lock()
        self.is_exhausted = False
        """Whether all of its runs have been submitted."""
        self._fill()

    def __iter__(self) -> Iterator[PrefectFuture[V]]:
        return self

    def __next__(self) -> PrefectFuture[V]:
        self._fill()
        while not self._ahead:
            if self.is_exhausted:
                raise StopIteration
            block_until_done([self._wait_for_room()])
            self._fill()
        return self._ahead.popleft()

    async def __aiter__(self) -> AsyncIterator[PrefectFuture[V]]:
        self._fill()
        while self._ahead or not self.is_exhausted:
            if self._ahead:
                yield self._ahead.popleft()
            else:
                await until_done([self._wait_for_room()])
            self._fill()

    def result(self, raise_on_failure: bool = True) -> list[V]:
        """Block until all runs are over and return their values in order, or raise the exception of the first that failed."""
        values: list[V] = []
        waiting: deque[PrefectFuture[V]] = deque()
        for future in self:
            waiting.append(future)
            while waiting and waiting[0].done():
                values.append(waiting.popleft().result(raise_on_failure=raise_on_failure))
        return values + [future.result(raise_on_failure=raise_on_failure) for future in waiting]

    def wait(self) -> list[State]:
        """Block until all runs are over and return their states in order."""
        futures = list(self)
        block_until_done(futures)
        for future in futures:
            future.was_asked = True
        return [future.state for future in futures]

    def drain(self) -> None:
        """Submit what is left, as there is room; for the engine, when the flow's body has ended."""
        self._context.run(self._drain)

    def _drain(self) -> None:
        self._ahead.clear()
        while not self.is_exhausted:
            self._fill()
            self._ahead.clear()
            if not self.is_exhausted:
                block_until_done([self._wait_for_room()])

    def _fill(self) -> None:
        # Runs may end as fast as they are submitted, so that there would always be room.
        while not self.is_exhausted and max(len(self._open), len(self._ahead)) < self._window:
            future = self.take_next()
            if future is None:
                self.is_exhausted = True
                break
            self._open[future] = None
            self._ahead.append(future)
            future.add_done_callback(self._ended)
        if self._filled is not None and not self._ahead:
            self._filled()

    def take_next(self) -> PrefectFuture[V] | None:
        """Submit the next run, whose element a user's generator may make; None if there is none."""
        return next(self._submissions, None)

    def _ended(self, future: PrefectFuture[Any]) -> None:
        with self._lock:
            self._open.pop(future, None)
            room, self._room = self._room, None
        if room is not None:
            room.fire()

    def _wait_for_room(self) -> Signal:
        with self._lock:
            room = self._room = self._room or _Room(self._open)
            is_there = len(self._open) < self._window
        if is_there:
            room.fire()
        return room

    def __repr__(self) -> str:
        return f"PrefectFutureStream(window={self._window}, under way: {len(self._open)})"


class _Room(Signal):
    """Fires when a run of the stream has ended."""

    __slots__ = ("_open",)

    def __init__(self, under_way: dict[PrefectFuture[Any], None]) -> None:
        super().__init__()
        self._open = under_way

    def upstreams(self) -> Collection[Signal]:
        # Of several, any will do.
        return list(self._open) if len(self._open) == 1 else ()
