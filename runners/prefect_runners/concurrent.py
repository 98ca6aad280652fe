"""Many tasks at once in one process: `def` bodies on threads, `async def` bodies on the flow run's event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from prefect_core import endless_waits
from prefect_core.engine import remote
from prefect_core.errors import RunnerArgumentError, RunnerError
from prefect_core.loops import LoopFlag
from prefect_core.payload import Payload, Receipt
from prefect_core.placement import checked_resources
from prefect_core.settings import current as settings
from prefect_core.task_runners import Host, TaskRunner
from prefect_core.thread_pool import Place, ThreadPool
from prefect_core.waiting import async_slot, current_slot
from prefect_runners.admission import Admission


class ConcurrentTaskRunner(TaskRunner):
    """Runs tasks beside each other.

    `max_workers` bounds how many bodies run at once, of either colour. None: threads on demand, up to the setting `max_threads`, and
    any number of async bodies. With `resources`, such as {"gpu": 2, "memory": "8GB"}, tasks that ask for some begin while there is enough.
    """

    def __init__(self, max_workers: int | None = None, resources: Mapping[str, float | str] | None = None) -> None:
        if max_workers is not None and (
            not isinstance(max_workers, int) or isinstance(max_workers, bool) or max_workers < 1
        ):
            raise ValueError(f"'max_workers' must be a whole number from 1, or None; got {max_workers!r}.")
        self.max_workers = max_workers
        self.resources = checked_resources(resources) if resources is not None else None
        self._admission = Admission(self.resources) if self.resources is not None else None
        self._host: Host | None = None
        self._pool: ThreadPool | None = None

    @classmethod
    def from_argument(cls, argument: str) -> ConcurrentTaskRunner:
        try:
            return cls(int(argument))
        except ValueError as error:
            raise RunnerArgumentError(f"Expected a number of workers, as in concurrent:8; got {argument!r}.") from error

    def options(self) -> dict[str, Any]:
        return {"max_workers": self.max_workers, "resources": self.resources}

    def duplicate(self) -> ConcurrentTaskRunner:
        return type(self)(self.max_workers, self.resources)

    def start(self, host: Host) -> None:
        self._host = host
        self._pool = ThreadPool(self.max_workers or settings().max_threads, "prefect-core-task")

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        if self._pool is None or self._host is None:
            raise RunnerError("The task runner must be started before submitting work.")
        if self._admission is not None and payload.resources:
            self._admission.enter(payload, done, partial(self._begin, self._pool, self._host, payload))
        else:
            self._begin(self._pool, self._host, payload, done)

    def _begin(self, pool: ThreadPool, host: Host, payload: Payload, done: Callable[[Receipt], None]) -> None:
        if not payload.is_async:
            call = payload.handle = partial(_run, payload, done)
            pool.submit(call, payload.priority)
            return
        attempt = payload.handle = _OnLoop(host, payload, done)
        if self.max_workers is None:
            attempt.start(None)
        else:
            pool.submit(attempt, payload.priority)

    def cancel(self, payload: Payload) -> bool:
        if self._admission is not None and payload.resources:
            return self._admission.cancel(payload, self._take_back)
        return self._take_back(payload)

    def _take_back(self, payload: Payload) -> bool:
        handle = payload.handle
        return self._pool is not None and handle is not None and self._pool.withdraw(handle)

    def interrupt(self, payload: Payload) -> None:
        handle = payload.handle
        if isinstance(handle, _OnLoop):
            handle.interrupt()

    def abandon(self, payload: Payload) -> None:
        handle = payload.handle
        if self._pool is not None and handle is not None and not payload.is_async:
            self._pool.abandon(handle)

    def loop_needed(self, payload: Payload) -> object | None:
        if self._host is None or self._pool is None:
            return None
        handle = payload.handle
        is_bounded = self.max_workers is not None
        is_needed = payload.is_async or (is_bounded and handle is not None and self._pool.is_behind_loop(handle))
        return self._host.loop() if is_needed else None

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.close()


def _run(payload: Payload, done: Callable[[Receipt], None]) -> Callable[[], None]:
    receipt = remote.run_attempt(payload)
    receipt.worker = receipt.worker or remote.worker_name()
    return partial(done, receipt)


class _OnLoop:
    """An async attempt: in the queue for a place, on its way to the host's loop, or running there."""

    __slots__ = ("_cancel", "_done", "_host", "_is_interrupted", "_payload")

    def __init__(self, host: Host, payload: Payload, done: Callable[[Receipt], None]) -> None:
        self._host = host
        self._payload = payload
        self._done = done
        self._cancel: Callable[[], object] | None = None
        self._is_interrupted = False

    def __call__(self) -> Callable[[], None]:
        """Let it run in the place of this thread, which waits until it has ended."""
        ended = threading.Lock()
        ended.acquire()
        try:
            self.start(_AsyncPlace(current_slot(), ended))
        except RuntimeError:
            # The loop has ended, and the flow run with it, which has given this attempt up.
            return _nothing
        if endless_waits.blocked_loops:
            endless_waits.look_again(self._host.loop())
        ended.acquire()
        return _nothing

    def start(self, place: _AsyncPlace | None) -> None:
        """Put it on the loop."""
        self._cancel = self._host.spawn(_arun, self._payload, self._done, place)
        if self._is_interrupted:
            self._cancel()

    def interrupt(self) -> None:
        """Cancel it, as soon as it is on the loop."""
        # In this order, and the other way round in `start`: no interrupt is lost between the two.
        self._is_interrupted = True
        if self._cancel is not None:
            self._cancel()


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
        place.is_lent_to_loop = True

    def give_back(self) -> None:
        self._place.give_back()

    async def take_again(self) -> None:
        granted = LoopFlag()
        if not self._place.ask_back(granted.set):
            try:
                await granted.wait()
            except BaseException:
                # A cancelled body goes on without, until it waits again or ends.
                self._place.ask_no_more(granted.set)
                raise

    def leave(self) -> None:
        # Here and not by the thread, which may come to it late: code on the loop may be about to wait for what is next.
        self._place.is_lent_to_loop = False
        self._ended.release()


ThreadPoolTaskRunner = ConcurrentTaskRunner
