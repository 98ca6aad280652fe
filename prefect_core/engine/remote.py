"""Running one attempt, wherever a runner put it: the body in its context, its end as a receipt.

Nothing here raises what a body raises: value, exception, crash and timeout all come back in the receipt. What runs here knows no
history and no retries; it may run in another process.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from functools import cache, partial
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from prefect_core import clock, context
from prefect_core.crash_points import crash_points_around
from prefect_core.engine import cancels, deadlines, forks, portal, trampoline
from prefect_core.logs import prints
from prefect_core.payload import Payload, Receipt
from prefect_core.settings import current as settings
from prefect_core.state_kinds import CANCELLING
from prefect_core.waiting import async_slot


def worker_name() -> str:
    """Name this process and thread for the history: host:pid:thread."""
    return f"{process_name()}:{threading.current_thread().name}"


@cache
def process_name() -> str:
    """Name this process for the history: host:pid."""
    return f"{os.uname().nodename}:{os.getpid()}"


os.register_at_fork(after_in_child=process_name.cache_clear)


def run_attempt(payload: Payload) -> Receipt:
    """Run the body on this thread and return how it ended. An async body runs on the loop in a thread."""
    if payload.isolated is not None:
        return payload.isolated.run(payload)
    if payload.is_async:
        receipt: Receipt = portal.run(arun_attempt, payload)
        return receipt
    if payload.variables is not None:
        return payload.variables.run(_perform, payload)
    return _perform(payload)


def _perform(payload: Payload) -> Receipt:
    token = context.enter(payload.context)
    outer = trampoline.suspend()
    generation = forks.generation
    started_us = clock.now_us()
    receipt = Receipt()
    logs_prints = payload.context.log_prints
    if logs_prints:
        prints.begin(payload.context)
    try:
        if payload.started is not None:
            payload.started(started_us)
        if payload.timeout_seconds:
            receipt.value = deadlines.call_with_alarm(payload, receipt, _value_of_body)
        else:
            receipt.value = _value_of_body(payload)
    except BaseException as error:
        receipt.error = error
    finally:
        if forks.generation != generation:
            forks.leave(receipt.error)
        trampoline.resume(outer)
        context.leave(token)
        if logs_prints:
            prints.end(payload.context)
    receipt.started_us = started_us
    receipt.ended_us = clock.now_us()
    return receipt


@crash_points_around("engine.body")
@deadlines.door
def _value_of_body(payload: Payload) -> Any:
    value = payload.function(*payload.args, **payload.kwargs)
    return consumed(value) if type(value) is GeneratorType else value


@deadlines.door
def consumed(generator: Generator[Any, Any, Any]) -> list[Any]:
    """Return what a returned generator yields, as a list. Raises `ValueError` past the setting `max_generator_items`."""
    limit = settings().max_generator_items
    items: list[Any] = []
    for item in generator:
        if limit and len(items) >= limit:
            generator.close()
            raise _endless(limit)
        items.append(item)
    return items


async def aconsumed(generator: AsyncGenerator[Any, Any]) -> list[Any]:
    """Do the same with the generator of a submitted async generator function."""
    limit = settings().max_generator_items
    items: list[Any] = []
    async with aclosing(generator):
        async for item in generator:
            if limit and len(items) >= limit:
                raise _endless(limit)
            items.append(item)
    return items


def _endless(limit: int) -> ValueError:
    return ValueError(
        f"A returned generator gave more than {limit:,} items, and a result must end. Yield the values from the flow or task "
        "itself to hand them on one by one, or raise the setting max_generator_items."
    )


async def arun_attempt(payload: Payload) -> Receipt:
    """Run an async body on this event loop and return how it ended. A cancelled one's receipt holds the cancellation."""
    import anyio  # only async code comes here

    token = context.enter(payload.context)
    generation = forks.generation
    started_us = clock.now_us()
    receipt = Receipt()
    logs_prints = payload.context.log_prints
    if logs_prints:
        prints.begin(payload.context)
    try:
        if payload.started is not None:
            payload.started(started_us)
        with anyio.move_on_after(payload.timeout_seconds) as scope:
            cancels.let_reach(payload, scope)
            value = payload.function(*payload.args, **payload.kwargs)
            value = await (aconsumed(value) if type(value) is AsyncGeneratorType else value)
            receipt.value = consumed(value) if type(value) is GeneratorType else value
        if scope.cancelled_caught:
            _note_cancelled(payload, receipt)
    except BaseException as error:
        receipt.error = error
    finally:
        if forks.generation != generation:
            forks.leave(receipt.error)
        context.leave(token)
        if logs_prints:
            prints.end(payload.context)
    receipt.started_us = started_us
    receipt.ended_us = clock.now_us()
    return receipt


def _note_cancelled(payload: Payload, receipt: Receipt) -> None:
    if payload.run.state.type is CANCELLING:
        receipt.error = deadlines.CancelHere(payload.run)
    else:
        receipt.timed_out = True
        receipt.error = deadlines.too_late(payload)


async def adopt_attempt(payload: Payload) -> Receipt:
    """Run an async body in an async task of its own, with the context variables of the place that submitted it."""
    if payload.variables is not None:
        for variable, value in payload.variables.items():
            # What a loop library or a runner keeps for the task it runs here stays as it is here.
            if variable is not async_slot and not variable.name.startswith(("sniffio", "current_async_library")):
                variable.set(value)
    return await arun_attempt(payload)


def iterate_attempt(payload: Payload, receipt: Receipt) -> Generator[Any, Any, None]:
    """Run a generator function's body, yielding what it yields; `receipt` tells afterwards how it ended, with what it returned."""
    receipt.started_us = clock.now_us()
    moment = deadlines.moment_of(payload) if payload.timeout_seconds else None
    try:
        body = _inside(payload, partial(_call_body, payload, receipt.started_us))
        go_on = partial(body.send, None)
        while True:
            cancel = cancels.exception_for(payload.context)
            if cancel is not None:
                # Nothing interrupts a body that its consumer keeps waiting.
                go_on = partial(body.throw, cancel)
            piece = (
                go_on
                if moment is None
                else partial(deadlines.call_piece, moment, payload, receipt, partial(_piece, go_on))
            )
            yielded = _inside(payload, piece)
            try:
                sent = yield yielded
            except GeneratorExit:
                _inside(payload, body.close)
                raise
            except BaseException as thrown:
                go_on = partial(body.throw, thrown)
            else:
                go_on = partial(body.send, sent)
    except StopIteration as stop:
        receipt.value = stop.value
    except GeneratorExit:
        raise
    except BaseException as error:
        receipt.error = error
    finally:
        receipt.ended_us = clock.now_us()


def _call_body(payload: Payload, started_us: int) -> Any:
    if payload.started is not None:
        payload.started(started_us)
    return payload.function(*payload.args, **payload.kwargs)


@deadlines.door
def _piece(function: Callable[[], Any]) -> Any:
    return function()


def _inside(payload: Payload, function: Callable[[], Any]) -> Any:
    """Call a piece of the body in the body's context, which the consumer between two pieces must not be in."""
    token = context.enter(payload.context)
    generation = forks.generation
    try:
        with prints.logged(payload.context):
            return _piece(function)
    finally:
        if forks.generation != generation:
            forks.leave(sys.exc_info()[1])
        context.leave(token)


async def aiterate_attempt(payload: Payload, receipt: Receipt) -> AsyncGenerator[Any, None]:
    """Run an async generator function's body, yielding what it yields; `receipt` tells afterwards how it ended."""
    receipt.started_us = clock.now_us()
    token = context.enter(payload.context)
    try:
        if payload.started is not None:
            payload.started(receipt.started_us)
        body = payload.function(*payload.args, **payload.kwargs)
    except BaseException as error:
        receipt.error = error
        context.leave(token)
        return
    context.leave(token)
    moment = deadlines.moment_of(payload) if payload.timeout_seconds else None
    try:
        while True:
            token = context.enter(payload.context)
            try:
                with prints.logged(payload.context):
                    value = await _next_by(moment, payload, receipt, body)
            finally:
                context.leave(token)
            yield value
    except StopAsyncIteration:
        pass
    except GeneratorExit:
        await body.aclose()
        raise
    except BaseException as error:
        receipt.error = error
    finally:
        receipt.ended_us = clock.now_us()


async def _next_by(moment: float | None, payload: Payload, receipt: Receipt, body: AsyncGenerator[Any, Any]) -> Any:
    """Return the next value of an async generator, which is cancelled at its deadline."""
    import anyio  # only async code comes here

    with anyio.move_on_after(None if moment is None else max(0.0, moment - clock.current().monotonic())) as scope:
        cancels.let_reach(payload, scope)
        return await anext(body)
    _note_cancelled(payload, receipt)
    assert receipt.error is not None
    raise receipt.error
