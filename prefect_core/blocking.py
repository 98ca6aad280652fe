"""Work that blocks a thread, awaited on an event loop."""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from prefect_core.loops import LoopFlag
from prefect_core.thread_pool import ThreadPool

T = TypeVar("T")

_threads = ThreadPool(limit=256, name="prefect-core-blocking")


def _renew() -> None:
    global _threads
    _threads = ThreadPool(limit=256, name="prefect-core-blocking")


os.register_at_fork(after_in_child=_renew)


async def on_thread(work: Callable[[], T]) -> T:
    """Await work that blocks a thread. The thread is a daemon: anyio's own would keep a program that a signal ends from ending."""
    ended = LoopFlag()
    outcome: list[tuple[Any, BaseException | None]] = []

    def carry_out() -> Callable[[], object]:
        try:
            outcome.append((work(), None))
        except BaseException as error:
            outcome.append((None, error))
        return ended.set

    _threads.submit(partial(contextvars.copy_context().run, carry_out))
    await ended.wait()
    value, error = outcome[0]
    if error is not None:
        raise error
    returned: T = value
    return returned
