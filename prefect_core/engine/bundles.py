"""Chunks of a `map`: payloads that are handed to the runner together, since each would cost more on its way than its body takes.

Only what travels on its own changes: each item keeps its run, its states, its retries and its logs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Literal

from prefect_core.engine import timers
from prefect_core.payload import Payload, Receipt
from prefect_core.task_runners import TaskRunner

ChunkSize = int | Literal["auto"]
_FIRST, _MOST = 8, 500
_CHUNK_SECONDS = 0.05
"""How long a chunk of adapted size takes to run."""
_ITEM_SECONDS = 50e-6
"""What an item costs at the far end beside its body."""
_WAIT_SECONDS = 0.005
_SHARE = 0.2

Done = Callable[[Receipt], None]


class Bundle:
    """Gathers the payloads of one `map` until there are enough for a chunk, or nothing more comes for some milliseconds."""

    def __init__(self, size: ChunkSize) -> None:
        self._size = _FIRST if size == "auto" else size
        self._adapts = size == "auto"
        self._seconds: float | None = None
        self._lock = threading.Lock()
        self._items: list[tuple[Payload, Done]] = []
        self._runner: TaskRunner | None = None
        self._is_timed = False

    def add(self, runner: TaskRunner, payload: Payload, done: Done) -> None:
        """Hand a payload over with the next chunk."""
        if self._adapts:
            done = partial(self._observe, done)
        with self._lock:
            self._runner = runner
            self._items.append((payload, done))
            chunk = self._take() if len(self._items) >= self._size else []
            is_alone = not chunk and not self._is_timed
            self._is_timed = self._is_timed or is_alone
        if chunk:
            runner.submit_chunk(chunk)
        elif is_alone:
            timers.after(_WAIT_SECONDS, self._time_is_up)

    def flush(self) -> None:
        """Hand over what there is."""
        with self._lock:
            chunk, runner = self._take(), self._runner
        if chunk and runner is not None:
            runner.submit_chunk(chunk)

    def withdraw(self, payload: Payload) -> bool:
        """Take back a payload that has not been handed over; False if it has."""
        with self._lock:
            left = [item for item in self._items if item[0] is not payload]
            was_there, self._items = len(left) < len(self._items), left
        return was_there

    def _time_is_up(self) -> None:
        with self._lock:
            self._is_timed = False
        self.flush()

    def _take(self) -> list[tuple[Payload, Done]]:
        chunk, self._items = self._items, []
        return chunk

    def _observe(self, done: Done, receipt: Receipt) -> None:
        if receipt.ended_us > receipt.started_us > 0 or receipt.error is None:
            seconds = (receipt.ended_us - receipt.started_us) / 1e6 + _ITEM_SECONDS
            known = self._seconds
            self._seconds = seconds if known is None else known + _SHARE * (seconds - known)
            self._size = max(1, min(_MOST, round(_CHUNK_SECONDS / self._seconds)))
        done(receipt)
