"""Hands attempts to Dask, those that come in quick succession as one graph: a graph costs its scheduler more than a task in it."""

from __future__ import annotations

import contextlib
import threading
from _queue import Empty, SimpleQueue
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from dask.context import thread_state

from prefect_runners.dask_attempts import Attempt
from prefect_runners.dask_cluster import large_graphs_allowed

_MOST_TASKS = 200
_MOST_BYTES = 8 << 20


class Native(NamedTuple):
    """A task of Dask, `function(dumped, inputs)`, or `function(dumped)` without inputs, and the attempts that it stands for."""

    key: str
    attempts: tuple[Attempt, ...]
    function: Callable[..., Any]
    dumped: bytes
    inputs: list[Any]
    options: dict[str, Any]

    def left(self) -> list[Attempt]:
        """Return the attempts that are still known by its key."""
        return [attempt for attempt in self.attempts if attempt.native == self.key]

    def goes_with(self) -> tuple[Any, ...]:
        """Return what tasks of one call of `Client.map` have in common."""
        return self.function, self.options


class Batches:
    """Submits tasks in the order they are `put`, on a thread of its own: while it submits some, others gather.

    `refuse(attempt, error)` is called where Dask takes none, and `is_wanted(attempt)` before each, since some have ended by then.
    """

    def __init__(
        self, client: Any, is_wanted: Callable[[Attempt], bool], refuse: Callable[[Attempt, Exception], object]
    ) -> None:
        self._client = client
        self._is_wanted = is_wanted
        self._refuse = refuse
        self._natives: SimpleQueue[Native | None] = SimpleQueue()
        # Dask lets what a task submits go before what waits beside that task, and knows it by this.
        self._submitting_task = getattr(thread_state, "key", None)
        self._thread = threading.Thread(target=self._serve, name="prefect-core-dask-submit", daemon=True)
        self.put = self._natives.put

    def start(self) -> None:
        """Begin to submit."""
        self._thread.start()

    def close(self) -> None:
        """Submit nothing any more; returns when that is certain."""
        if self._thread.is_alive():
            self.put(None)
            self._thread.join()

    def _serve(self) -> None:
        thread_state.key = self._submitting_task
        for batch in self._batches():
            for _, natives in groupby(batch, Native.goes_with):
                self._submit(list(natives))

    def _batches(self) -> Iterator[list[Native]]:
        while (first := self._natives.get()) is not None:
            batch, size = [first], len(first.dumped)
            with contextlib.suppress(Empty):
                while len(batch) < _MOST_TASKS and size < _MOST_BYTES:
                    native = self._natives.get(False)
                    if native is None:
                        return
                    batch.append(native)
                    size += len(native.dumped)
            yield batch

    def _submit(self, natives: list[Native]) -> None:
        wanted = [native for native in natives if any(map(self._is_wanted, native.left()))]
        if not wanted:
            return
        arguments: list[list[Any]] = [[native.dumped for native in wanted]]
        if any(native.inputs for native in wanted):
            arguments.append([native.inputs for native in wanted])
        is_large = sum(map(len, arguments[0])) > _MOST_BYTES
        try:
            with large_graphs_allowed() if is_large else contextlib.nullcontext():
                keys = [native.key for native in wanted]
                futures = self._client.map(wanted[0].function, *arguments, key=keys, pure=False, **wanted[0].options)
        except Exception as error:
            for attempt in (attempt for native in wanted for attempt in native.left()):
                self._refuse(attempt, error)
            return
        for native, future in zip(wanted, futures, strict=True):
            for attempt in filter(self._is_wanted, native.left()):
                attempt.future = future
