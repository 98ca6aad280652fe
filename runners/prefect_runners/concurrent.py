"""Many tasks at once in one process: `def` bodies on threads, `async def` bodies on the flow run's event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from prefect_core.engine import remote
from prefect_core.errors import RunnerArgumentError, RunnerError
from prefect_core.loops import LoopFlag
from prefect_core.payload import Payload, Receipt
from prefect_core.settings import current as settings
from prefect_core.task_runners import Host, TaskRunner
from prefect_core.thread_pool import Place, ThreadPool
from prefect_core.waiting import async_slot, current_slot


class ConcurrentTaskRunner(TaskRunner):
    """Runs tasks beside each other.

    `max_workers` bounds how many bodies run at once, of either colour. None: threads on demand, up to the setting `max_threads`, and
    any number of async bodies.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        if max_workers is not None and (
            not isinstance(max_workers, int) or isinstance(max_workers, bool) or max_workers < 1
        ):
            raise ValueError(f"'max_workers' must be a whole number from 1, or None; got {max_workers!r}.")
        self.max_workers = max_workers
        self._host: Host | None = None
        self._pool: ThreadPool | None = None

    @classmethod
    def from_argument(cls, argument: str) -> ConcurrentTaskRunner:
        try:
            return cls(int(argument))
        except ValueError as error:
            raise RunnerArgumentError(f"Expected a number of workers, as in concurrent:8; got {argument!r}.") from error

    def options(self) -> dict[str, Any]:
        return {"max_workers": self.max_workers}

    def duplicate(self) -> ConcurrentTaskRunner:
        return type(self)(self.max_workers)

    def start(self, host: Host) -> None:
        self._host = host
        self._pool = ThreadPool(self.max_workers or settings().max_threads, "prefect-core-task")

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        if self._pool is None or self._host is None:
            raise RunnerError("The task runner must be started before submitting work.")
        if payload.is_async and self.max_workers is None:
            payload.handle = self._host.spawn(_arun, payload, done, None)
            return
        work = _run if not payload.is_async else partial(_await, self._host)
        call = payload.handle = partial(work, payload, done)
        self._pool.submit(call)

    def cancel(self, payload: Payload) -> bool:
        handle = payload.handle
        return self._pool is not None and handle is not None and self._pool.withdraw(handle)

    def interrupt(self, payload: Payload) -> None:
        # One that waits for a place, or just got it, has its own call in the handle: there is nothing on the loop yet.
        if payload.is_async and payload.handle is not None and not isinstance(payload.handle, partial):
            payload.handle()

    def abandon(self, payload: Payload) -> None:
        if self._pool is not None and not payload.is_async:
            self._pool.abandon(payload.handle)

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.close()


def _run(payload: Payload, done: Callable[[Receipt], None]) -> Callable[[], None]:
    receipt = remote.run_attempt(payload)
    receipt.worker = remote.worker_name()
    return partial(done, receipt)


def _await(host: Host, payload: Payload, done: Callable[[Receipt], None]) -> Callable[[], None]:
    """Let an async body run on the loop in the place of this thread, which waits until it has ended."""
    ended = threading.Lock()
    ended.acquire()
    payload.handle = host.spawn(_arun, payload, done, _AsyncPlace(current_slot(), ended))
    ended.acquire()
    return _nothing


def _nothing() -> None:
    """An async body's receipt is handed over on its loop."""


async def _arun(payload: Payload, done: Callable[[Receipt], None], place: _AsyncPlace | None) -> None:
    async_slot.set(place)
    try:
        receipt = await remote.adopt_attempt(payload)
    finally:
        if place is not None:
            place.leave()
    receipt.worker = remote.worker_name()
    done(receipt)


class _AsyncPlace:
    """A thread's place, held by an async body that gives it back while it awaits futures (`futures.AsyncSlot`)."""

    __slots__ = ("_ended", "_place")

    def __init__(self, place: Place, ended: threading.Lock) -> None:
        self._place = place
        self._ended = ended

    def give_back(self) -> None:
        self._place.give_back()

    async def take_again(self) -> None:
        granted = LoopFlag()
        if not self._place.ask_back(granted.set):
            await granted.wait()

    def leave(self) -> None:
        self._ended.release()


ThreadPoolTaskRunner = ConcurrentTaskRunner
