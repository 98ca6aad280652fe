"""A task runner of one's own: a thread for each attempt, of which so many run at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from prefect_core import waiting
from prefect_core.engine import remote
from prefect_core.errors import RunnerArgumentError, RunnerError
from prefect_core.payload import Payload, Receipt
from prefect_core.task_runners import Host, TaskRunner


class ThreadsTaskRunner(TaskRunner):
    """Runs each task on a thread of its own, at most `limit` `def` bodies at once."""

    def __init__(self, limit: int = 4) -> None:
        if limit < 1:
            raise ValueError(f"'limit' must be at least 1; got {limit!r}.")
        self.limit = limit
        self._places: threading.Semaphore | None = None

    @classmethod
    def from_argument(cls, argument: str) -> ThreadsTaskRunner:
        """Make one from "threads:8"."""
        if not argument.isdecimal() or not int(argument):
            raise RunnerArgumentError(f"Expected a number of threads, as in threads:8; got {argument!r}.")
        return cls(int(argument))

    def options(self) -> dict[str, Any]:
        return {"limit": self.limit}

    def duplicate(self) -> ThreadsTaskRunner:
        return type(self)(self.limit)

    def start(self, host: Host) -> None:
        self._places = threading.Semaphore(self.limit)

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        if self._places is None:
            raise RunnerError("The task runner must be started before submitting work.")
        attempt = payload.handle = Attempt(payload, done, self._places)
        threading.Thread(target=attempt.run, name=payload.run.name, daemon=True).start()

    def cancel(self, payload: Payload) -> bool:
        return payload.handle is not None and payload.handle.claim()

    def abandon(self, payload: Payload) -> None:
        # Its body is late and runs on; another may begin.
        payload.handle.place.give_back()


class Attempt:
    """One attempt on its thread, from the wait for a place to its receipt."""

    def __init__(self, payload: Payload, done: Callable[[Receipt], None], places: threading.Semaphore) -> None:
        self.payload = payload
        self.done = done
        self.place = Place(places)
        self._claim = threading.Lock()

    def claim(self) -> bool:
        """Settle whether it runs or is cancelled: the first to ask decides."""
        return self._claim.acquire(blocking=False)

    def run(self) -> None:
        # An async body runs on an event loop, and this thread only waits for it.
        place = None if self.payload.is_async else self.place
        if place is not None:
            place.take_again()
        is_wanted = self.claim()
        if is_wanted:
            with waiting.holding(place):
                receipt = remote.run_attempt(self.payload)
            receipt.worker = remote.worker_name()
        self.place.give_back()
        if is_wanted:
            self.done(receipt)


class Place:
    """One of the places of a runner: a body that waits for futures gives it back meanwhile, so no wait is for ever."""

    def __init__(self, places: threading.Semaphore) -> None:
        self._places = places
        self._is_held = False

    def take_again(self) -> None:
        self._places.acquire()
        self._is_held = True

    def give_back(self, *_: object) -> None:
        if self._is_held:
            self._is_held = False
            self._places.release()
