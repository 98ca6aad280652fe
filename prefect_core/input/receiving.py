"""Receiving inputs that are sent to a flow run, in the order of their arrival."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from prefect_core import context, history, moments
from prefect_core.control import steward
from prefect_core.engine import awaited_inputs, cancels, gates
from prefect_core.input import colour
from prefect_core.moments import Work

if TYPE_CHECKING:
    from uuid import UUID

    from prefect_core.context import RunContext
    from prefect_core.history import HistoryStore
    from prefect_core.history.control import Control
    from prefect_core.history.rows import FlowRunRow
    from prefect_core.history.sent import SentInput
    from prefect_core.moments import Moments

T = TypeVar("T")


class Wanted(NamedTuple):
    """Which inputs somebody wants, and how long they wait for each."""

    flow_run: str
    channels: frozenset[str]
    timeout_seconds: float | None
    raises_timeout: bool
    exclude_keys: frozenset[str]


class InputReceiver(Iterator[T], AsyncIterator[T], Generic[T]):
    """The inputs of one type that a flow run is sent, each once, in the order of arrival: `for`, `async for`, or one by one by `next()`.

    `exclude_keys` has the keys of all that it gave, and of what it was told to leave out. May be used by several threads or tasks at
    once: each input goes to one of them.
    """

    def __init__(self, wanted: Wanted, make: Callable[[SentInput, UUID], T]) -> None:
        """`make` makes what is given of an input that has arrived for the flow run with an id."""
        self._wanted = wanted
        self._make = make
        self._lock = threading.Lock()
        self._run: FlowRunRow | None = None
        self._last = 0
        self._arrived: deque[SentInput] = deque()
        self.exclude_keys: set[str] = set(wanted.exclude_keys)

    def __iter__(self) -> InputReceiver[T]:
        return self

    def __aiter__(self) -> InputReceiver[T]:
        return self

    def __next__(self) -> T:
        colour.check_may_wait()
        row = moments.run(self._arriving())
        if row is None:
            self._raise_timeout()
            raise StopIteration
        return self._made(row)

    async def __anext__(self) -> T:
        row = await moments.arun(self._arriving())
        if row is None:
            self._raise_timeout()
            raise StopAsyncIteration
        return self._made(row)

    def next(self) -> Any:
        """Wait for the next input and return it; awaitable in async code. Raises `TimeoutError` if none comes in time."""
        if colour.is_awaited():
            return self._anext_or_raise()
        colour.check_may_wait()
        return self._given(moments.run(self._arriving()))

    async def _anext_or_raise(self) -> T:
        return self._given(await moments.arun(self._arriving()))

    def _given(self, row: SentInput | None) -> T:
        if row is None:
            raise self._timeout()
        return self._made(row)

    def _made(self, row: SentInput) -> T:
        assert self._run is not None
        return self._make(row, self._run.id)

    def _raise_timeout(self) -> None:
        if self._wanted.raises_timeout:
            raise self._timeout()

    def _timeout(self) -> TimeoutError:
        wanted = self._wanted
        return TimeoutError(
            f"No input came for flow run '{wanted.flow_run}' within {wanted.timeout_seconds} second(s)."
        )

    def _arriving(self) -> Moments[SentInput | None]:
        """Wait for an input, and take it; None if none comes in time. Raises what ends the body that waits, if something does."""
        seconds = self._wanted.timeout_seconds
        until = time.monotonic() + seconds if seconds is not None else None
        around = context.current()
        if (end := _end_of(around)) is not None:
            raise end
        row = self._next_arrived()
        if row is not None:
            return row
        with ExitStack() as opened:
            wanted = self._wanted
            opened.enter_context(awaited_inputs.awaiting(around, wanted.flow_run, wanted.channels, seconds))
            stored: HistoryStore = yield Work(partial(opened.enter_context, history.reading()))
            control = stored.control()
            while (row := self._next_arrived()) is None:
                is_there: bool = yield Work(partial(self._look, stored))
                if is_there:
                    continue
                if (end := _end_of(around)) is not None:
                    raise end
                if until is not None and time.monotonic() >= until:
                    return None
                expectation = steward.expect(control, partial(self._is_met, control, around), until)
                try:
                    yield expectation
                finally:
                    expectation.close()
        return row

    def _next_arrived(self) -> SentInput | None:
        while True:
            try:
                row = self._arrived.popleft()
            except IndexError:
                return None
            if row.key not in self.exclude_keys:
                self.exclude_keys.add(row.key)
                return row

    def _look(self, stored: HistoryStore) -> bool:
        """Read what has come since the last look; tells whether something has."""
        wanted = self._wanted
        with self._lock:
            if self._run is None:
                self._run = stored.flow_run(wanted.flow_run)
            rows = stored.control().inputs(self._run.key, wanted.channels, self._last)
            if rows:
                self._last = rows[-1].number
                self._arrived.extend(rows)
        if len(rows) > 1:
            # For others who wait here, and find nothing behind these.
            steward.nudge()
        return bool(rows)

    def _is_met(self, control: Control, around: RunContext | None) -> bool:
        run = self._run
        if self._arrived or _end_of(around) is not None:
            return True
        return run is not None and control.has_input(run.key, self._wanted.channels, self._last)


def _end_of(around: RunContext | None) -> BaseException | None:
    """Return what a call of a task would end this body with: its run is being cancelled, or was suspended."""
    cancel = cancels.exception_for(around)
    if cancel is not None:
        return cancel
    try:
        gates.closed_gate(gates.flow_around(around))
    except BaseException as refusal:
        return refusal
    return None
