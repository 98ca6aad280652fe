"""Chunks: payloads that are handed to the runner together, since each would cost more on its way than its body takes.

Only what travels on its own changes: each item keeps its run, its states, its retries and its logs.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Literal

from prefect_core.engine import garbage, timers
from prefect_core.engine.gates import Held, about_to_begin, flow_around
from prefect_core.errors import FlowPauseTimeout, Pause
from prefect_core.payload import Payload, Receipt
from prefect_core.references import Reference
from prefect_core.state_kinds import RUNNING
from prefect_core.task_runners import TaskRunner

if TYPE_CHECKING:
    from prefect_core.runs import Run

ChunkSize = int | Literal["auto"]
_FIRST, _MOST = 8, 500
_CHUNK_SECONDS = 0.05
"""How long a chunk of adapted size takes to run."""
_ITEM_SECONDS = 50e-6
"""What an item costs at the far end beside its body."""
_WAIT_SECONDS = 0.005
_SHARE = 0.2
_STUCK_SECONDS = 0.5
_numbers = itertools.count(1)

Done = Callable[[Receipt], None]


class Pace:
    """How long bodies of a task take: an average in which what is recent counts most."""

    __slots__ = ("count", "is_ruled_out", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        """What a body takes."""
        self.count = 0
        self.is_ruled_out = False
        """Whether one left a large value where it ran, or was lost with its place."""

    def anew(self) -> Pace:
        """Return one that knows what this knows of the time that bodies take: for another run, in which nothing is ruled out."""
        pace = Pace()
        pace.seconds, pace.count = self.seconds, self.count
        return pace

    def learn(self, receipt: Receipt) -> None:
        """Take note of how long an attempt took."""
        if receipt.lost or isinstance(receipt.value, Reference):
            self.is_ruled_out = True
        if receipt.ended_us > receipt.started_us > 0 or receipt.error is None:
            seconds = (receipt.ended_us - receipt.started_us) / 1e6
            self.seconds = seconds if not self.count else self.seconds + _SHARE * (seconds - self.seconds)
            self.count += 1

    @property
    def chunk_size(self) -> int:
        """How many make a chunk that is worth its way."""
        return max(1, min(_MOST, round(_CHUNK_SECONDS / (self.seconds + _ITEM_SECONDS)))) if self.count else _FIRST


class _Item:
    """One payload in a chunk, called with its receipt.

    It is let go of then: whoever looks at the chunk later, on a thread of its own, must not be the last to hold what Ray has made. Ray ends
    a process in which such an object is let go of while Ray is being shut down.
    """

    __slots__ = ("_done", "_pace", "payload")

    def __init__(self, payload: Payload, done: Done, pace: Pace | None) -> None:
        self.payload: Payload | None = payload
        self._done: Done | None = done
        self._pace = pace

    def __call__(self, receipt: Receipt) -> None:
        done = self._done
        self.payload = self._done = None
        if self._pace is not None:
            self._pace.learn(receipt)
        if done is not None:
            done(receipt)


class Bundle:
    """Gathers payloads until there are enough for a chunk, or nothing more comes for some milliseconds.

    One that `loosens` hands on singly what is stuck in a chunk behind a body that takes longer: for chunks that nobody asked for. One that
    `is_filling` waits for more until it is flushed.
    """

    def __init__(
        self, size: ChunkSize, pace: Pace | None = None, *, loosens: bool = False, is_filling: bool = False
    ) -> None:
        self._size = None if size == "auto" else size
        self._pace = (pace or Pace()) if size == "auto" else None
        self._loosens = loosens
        self._lock = threading.Lock()
        self._items: dict[Run, _Item] = {}
        self._enough = 1
        """How many make the chunk that is being gathered."""
        self._runner: TaskRunner | None = None
        self._is_timed = is_filling
        """Whether somebody will flush it."""
        self._is_filling = is_filling
        self._burst: garbage.Burst | None = None
        """While it is filled: calls are made, and none can be over before a chunk of them was handed over."""

    def add(self, runner: TaskRunner, payload: Payload, done: Done) -> None:
        """Hand a payload over with the next chunk."""
        self._add(runner, payload, done, self._pace)

    def join(self, payload: Payload, done: Done, pace: Pace, inputs: Collection[Run]) -> bool:
        """Hand a payload over in the same chunk as the runs that make its inputs; False if one of them is not gathered here any more."""
        return self._runner is not None and self._add(self._runner, payload, done, pace, inputs)

    def _add(
        self, runner: TaskRunner, payload: Payload, done: Done, pace: Pace | None, beside: Collection[Run] = ()
    ) -> bool:
        with self._lock:
            if beside and not self._items.keys() >= {*beside}:
                return False
            self._runner = runner
            if not self._items:
                self._enough = self._size or (self._pace.chunk_size if self._pace is not None else 1)
            self._items[payload.run] = _Item(payload, done, pace)
            chunk = self._take() if len(self._items) >= self._enough else []
            is_alone = not chunk and not self._is_timed
            if self._is_filling and self._burst is None:
                self._burst = garbage.Burst()
            self._is_timed = self._is_timed or is_alone
        if chunk:
            self._hand_over(runner, chunk)
        elif is_alone:
            timers.after(_WAIT_SECONDS, self.flush)
        return True

    def flush(self) -> None:
        """Hand over what there is, and from now on also what has waited for long enough."""
        with self._lock:
            self._is_timed = self._is_filling = False
            chunk, runner = self._take(), self._runner
            burst, self._burst = self._burst, None
        if burst is not None:
            burst.end()
        if chunk and runner is not None:
            self._hand_over(runner, chunk)

    def withdraw(self, payload: Payload) -> bool:
        """Take back a payload that has not been handed over; False if it has."""
        with self._lock:
            was_there = self.has(payload)
            if was_there:
                del self._items[payload.run]
        return was_there

    def may_be_joined(self, payload: Payload) -> bool:
        """Tell whether what depends on a payload may join it: while it is being gathered, in a chunk that nobody asked for."""
        return self._loosens and self.has(payload)

    def has(self, payload: Payload) -> bool:
        """Tell whether a payload is still being gathered with others."""
        item = self._items.get(payload.run)
        return item is not None and item.payload is payload

    def _hand_over(self, runner: TaskRunner, chunk: list[_Item]) -> None:
        number = next(_numbers)
        left = _left_of(chunk)
        for payload, _ in left:
            payload.chunk = number
        is_submitted = _submit_unless_paused(left, partial(runner.submit_chunk, left))
        if is_submitted and self._loosens:
            timers.after(_STUCK_SECONDS, partial(_look_at, runner, chunk))

    def _take(self) -> list[_Item]:
        chunk, self._items = [*self._items.values()], {}
        return chunk


def _left_of(chunk: list[_Item]) -> list[tuple[Payload, _Item]]:
    """Return the payloads of a chunk that are not over, and what is called with their receipts."""
    return [(payload, item) for item in chunk if (payload := item.payload) is not None]


def _submit_unless_paused(left: list[tuple[Payload, _Item]], submit: Callable[[], object]) -> bool:
    """Submit payloads of one flow run; False if that is paused, after which they come again."""
    try:
        with about_to_begin(flow_around(left[0][0].context)):
            submit()
    except (Held, Pause, FlowPauseTimeout):
        for _, item in left:
            item(Receipt(error=Held()))
        return False
    return True


def _look_at(runner: TaskRunner, chunk: list[_Item]) -> None:
    """Loosen a chunk that has begun and has not ended; look again later at one that has not begun."""
    left = _left_of(chunk)
    if not left:
        return
    if len(left) < len(chunk) or any(payload.context.run.state.type is RUNNING for payload, _ in left):
        threading.Thread(target=_loosen, args=(runner, chunk), name="prefect-core-loosen", daemon=True).start()
    else:
        timers.after(_STUCK_SECONDS, partial(_look_at, runner, chunk))


def _loosen(runner: TaskRunner, chunk: list[_Item]) -> None:
    """Take back what has not begun, and hand it over again, each for itself."""
    left = _left_of(chunk)
    taken = runner.cancel_many([payload for payload, _ in left])
    for payload, item in (one for one, is_taken in zip(left, taken, strict=True) if is_taken):
        try:
            _submit_unless_paused([(payload, item)], partial(runner.submit, payload, item))
        except Exception as error:
            item(Receipt.of_unbegun(error))
