"""Cancelling what runs, from another thread, once a body has said that it has begun."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio

from prefect_core import cancel_flow_run, cancel_task_run, runtime
from prefect_core.states import State

LONG = 50.0


class Later:
    """Something that is done on another thread once a body has said that it has begun."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.answers: list[Any] = []
        self._threads: list[threading.Thread] = []

    def do(self, work: Callable[[], Any]) -> None:
        def wait_and_work() -> None:
            assert self.begun.wait(LONG)
            try:
                self.answers.append(work())
            except Exception as error:
                self.answers.append(error)

        thread = threading.Thread(target=wait_and_work)
        thread.start()
        self._threads.append(thread)

    def cancel_this_flow(self, grace_seconds: float = LONG) -> None:
        self.do(partial(cancel_flow_run, runtime.flow_run.id, grace_seconds))

    def cancel_this_task(self, grace_seconds: float = LONG) -> None:
        self.do(partial(cancel_task_run, runtime.task_run.id, grace_seconds))

    def join(self) -> list[Any]:
        for thread in self._threads:
            thread.join(LONG)
        return self.answers

    def sleep(self) -> None:
        self.begun.set()
        time.sleep(LONG)

    async def asleep(self) -> None:
        self.begun.set()
        await anyio.sleep(LONG)


def states(answers: list[Any]) -> list[str]:
    return [answer.name if isinstance(answer, State) else repr(answer) for answer in answers]
