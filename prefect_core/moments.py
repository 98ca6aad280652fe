"""The moments at which a lock or a transaction may have to wait, performed for a thread, for an event loop, or by the engine.

What is decided stands once, in a generator that yields a moment and gets what it gave; the lifecycles of runs do the same with steps
(`engine.steps`), and take moments in among them.

    Signal      wait until it has happened
    a number    let so many seconds pass
    Work        do something that may block, or await it
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from prefect_core import clock
from prefect_core.blocking import on_thread
from prefect_core.waiting import Signal, block_until_done, until_done

T = TypeVar("T")


class Work:
    """Something that may block this thread; or, if `is_async`, a coroutine function to await."""

    __slots__ = ("call", "is_async")

    def __init__(self, call: Callable[[], Any], is_async: bool = False) -> None:
        self.call = call
        self.is_async = is_async


Moment = Signal | float | Work
Moments = Generator[Moment, Any, T]


def run(moments: Moments[T]) -> T:
    """Perform all moments on this thread and return what the generator returns."""
    try:
        moment = next(moments)
        while True:
            try:
                given = _perform(moment)
            except BaseException as error:
                moment = moments.throw(error)
            else:
                moment = moments.send(given)
    except StopIteration as stop:
        returned: T = stop.value
        return returned


def _perform(moment: Moment) -> Any:
    if isinstance(moment, Work):
        return _in_new_loop(moment.call) if moment.is_async else moment.call()
    if isinstance(moment, Signal):
        return block_until_done([moment])
    return clock.current().sleep(moment)


def _in_new_loop(function: Callable[[], Any]) -> Any:
    """Run a coroutine function to its end on a thread of its own: here a loop may be running already."""
    import anyio  # only async code comes here

    outcome: list[tuple[Any, BaseException | None]] = []

    async def carry_out() -> None:
        try:
            outcome.append((await function(), None))
        except BaseException as error:
            outcome.append((None, error))

    variables = contextvars.copy_context()
    # What a loop library keeps for this thread's loop must not be found on the other.
    for variable in [one for one in variables if one.name.startswith(("sniffio", "current_async_library"))]:
        variables.run(variable.set, None)
    thread = threading.Thread(
        target=lambda: variables.run(lambda: anyio.run(carry_out)), name="prefect-core-hook", daemon=True
    )
    thread.start()
    thread.join()
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


async def arun(moments: Moments[T]) -> T:
    """Perform all moments on this event loop and return what the generator returns. Work is carried through, even if cancelled."""
    try:
        moment = next(moments)
        while True:
            try:
                given = await _aperform(moment)
            except BaseException as error:
                moment = moments.throw(error)
            else:
                moment = moments.send(given)
    except StopIteration as stop:
        returned: T = stop.value
        return returned


async def _aperform(moment: Moment) -> Any:
    import anyio  # only async code comes here

    if isinstance(moment, Signal):
        return await until_done([moment])
    if not isinstance(moment, Work):
        return await clock.current().asleep(moment)
    with anyio.CancelScope(shield=True):
        return await (moment.call() if moment.is_async else on_thread(moment.call))
