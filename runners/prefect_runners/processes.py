"""Tasks in processes of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from prefect_core import pickling
from prefect_core.engine.transport import Delivery, Transport
from prefect_core.errors import RunnerArgumentError, RunnerError, SerializationError, describe
from prefect_core.payload import Payload, Receipt
from prefect_core.placement import checked_resources
from prefect_core.task_runners import Host, TaskRunner
from prefect_runners.admission import Admission
from prefect_runners.worker_pool import Job, Pool
from prefect_runners.worker_process import Boot


class ProcessPoolTaskRunner(TaskRunner):
    """Runs tasks in processes, at most `max_workers` at once; None: one for each processor that this process may use.

    Processes start when there is work for them and live until the flow run ends. `initializer(*initargs)` is called first in each.
    Functions, arguments and results travel as bytes; what is defined in the main script travels by value, so the script needs no
    `if __name__ == "__main__"` guard. What a body submits runs in its own process. With `resources`, such as {"gpu": 2}, tasks that ask
    for some begin while there is enough.
    """

    shares_memory = False
    can_cancel_running = True
    can_kill = True

    def __init__(
        self,
        max_workers: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        resources: Mapping[str, float | str] | None = None,
    ) -> None:
        if max_workers is not None and (
            not isinstance(max_workers, int) or isinstance(max_workers, bool) or max_workers < 1
        ):
            raise ValueError(f"'max_workers' must be a whole number from 1, or None; got {max_workers!r}.")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"'initializer' must be callable; got {initializer!r}.")
        self.max_workers = max_workers
        self.initializer = initializer
        self.initargs = tuple(initargs)
        self.resources = checked_resources(resources) if resources is not None else None
        self._admission = Admission(self.resources) if self.resources is not None else None
        self._transport = Transport()
        self._pool: Pool | None = None

    @classmethod
    def from_argument(cls, argument: str) -> ProcessPoolTaskRunner:
        try:
            return cls(int(argument))
        except ValueError as error:
            raise RunnerArgumentError(f"Expected a number of workers, as in processes:2; got {argument!r}.") from error

    def options(self) -> dict[str, Any]:
        return {
            "max_workers": self.max_workers,
            "initializer": self.initializer,
            "initargs": self.initargs or None,
            "resources": self.resources,
        }

    def duplicate(self) -> ProcessPoolTaskRunner:
        return type(self)(self.max_workers, self.initializer, self.initargs, self.resources)

    def start(self, host: Host) -> None:
        """Get ready. Raises `SerializationError` for an initializer that can't travel."""
        # Not resolved: a link may lead elsewhere by the time a worker starts.
        path = [str(Path(entry).absolute()) for entry in sys.path]
        self._pool = Pool(self.max_workers or _processors(), Boot(path, self._dumped_initializer()))

    def _dumped_initializer(self) -> bytes | None:
        if self.initializer is None:
            return None
        try:
            dumped: bytes = pickling.dumps((self.initializer, self.initargs))
        except Exception as failure:
            raise SerializationError(
                f"The initializer {self.initializer!r} or its arguments can't be sent to worker processes: {describe(failure)}."
            ) from failure
        return dumped

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        if self._pool is None:
            raise RunnerError("The task runner must be started before submitting work.")
        delivery = self._transport.take(payload)
        if self._admission is not None and payload.resources:
            self._admission.enter(payload, done, partial(self._begin, self._pool, delivery))
        else:
            self._begin(self._pool, delivery, done)

    def _begin(self, pool: Pool, delivery: Delivery, done: Callable[[Receipt], None]) -> None:
        job = delivery.payload.handle = Job(delivery, done)
        pool.submit(job)

    def cancel(self, payload: Payload) -> bool:
        if self._admission is not None and payload.resources:
            return self._admission.cancel(payload, self._take_back)
        return self._take_back(payload)

    def _take_back(self, payload: Payload) -> bool:
        return self._pool is not None and payload.handle is not None and self._pool.withdraw(payload.handle)

    def interrupt(self, payload: Payload) -> None:
        if self._pool is not None and payload.handle is not None:
            self._pool.kill(payload.handle)

    def end_within(self, payload: Payload, seconds: float) -> bool:
        """End the worker process that runs the attempt with all that the body started, after some seconds for it to end by itself."""
        if self._pool is not None and payload.handle is not None:
            self._pool.end_within(payload.handle, seconds)
        return True

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.stop()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
