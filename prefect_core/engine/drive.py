"""The drivers of direct calls: `run` on the caller's thread, `arun` on the caller's event loop, and both for generator functions.

They perform the steps of a lifecycle and decide nothing. What a step raises (an interrupt, a cancellation) is thrown into the
lifecycle at that step.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import Any, TypeVar

from prefect_core import clock
from prefect_core.blocking import on_thread
from prefect_core.engine import cancels, deadlines, late_bodies, portal, remote
from prefect_core.engine.steps import Block, Call, Life, Sleep, Step, Wait
from prefect_core.payload import Payload, Receipt
from prefect_core.waiting import Signal, block_until_done, until_done

T = TypeVar("T")


def run(life: Life[T]) -> T:
    """Drive a lifecycle on this thread and return what it returns."""
    try:
        step = next(life)
        while True:
            try:
                given = (
                    remote.run_attempt(step.payload)
                    if type(step) is Call and not step.payload.timeout_seconds
                    else _perform(step)
                )
            except BaseException as error:
                step = life.throw(error)
            else:
                step = life.send(given)
    except StopIteration as stop:
        returned: T = stop.value
        return returned


def _perform(step: Step) -> Any:
    match step:
        case Call(payload=payload):
            is_timed_there = payload.is_async or payload.isolated is not None
            if is_timed_there or threading.current_thread() is threading.main_thread():
                return remote.run_attempt(payload)
            receipt = run_with_deadline(payload)
            late_bodies.look_at(payload)
            return receipt
        case Block(work=work, is_async=is_async):
            return portal.run(work) if is_async else work()
        case Sleep(seconds=seconds, payload=payload):
            if payload is None or threading.current_thread() is threading.main_thread() or not clock.is_real():
                return clock.current().sleep(seconds)
            # Nothing but this wakes another thread.
            bell = threading.Event()
            payload.scope = bell.set, None
            if not cancels.has_come_for(payload.context):
                bell.wait(seconds)
            return None
        case Wait(signals=signals, timeout=timeout):
            for signal in signals:
                signal.hasten()
            return block_until_done(signals, timeout)


def run_with_deadline(payload: Payload) -> Receipt:
    """Run a `def` body on a thread of its own and return its receipt, or a late one at the deadline while the body goes on.

    `payload.over` tells when the body has ended.
    """
    over = payload.over = Signal()
    receipts: list[Receipt] = []
    context = contextvars.copy_context()
    begun_us = clock.now_us()

    def work() -> None:
        receipts.append(remote.run_attempt(payload))
        over.fire()

    threading.Thread(target=context.run, args=(work,), name="prefect-core-deadline", daemon=True).start()
    block_until_done([over], payload.timeout_seconds)
    return receipts[0] if receipts else deadlines.late_receipt(payload, begun_us)


async def arun(life: Life[T]) -> T:
    """Drive a lifecycle on this event loop and return what it returns."""
    try:
        step = next(life)
        while True:
            try:
                given = await _aperform(step)
            except BaseException as error:
                step = life.throw(error)
            else:
                step = life.send(given)
    except StopIteration as stop:
        returned: T = stop.value
        return returned


async def _aperform(step: Step) -> Any:
    import anyio.lowlevel  # only async code comes here

    match step:
        case Call(payload=payload):
            # What cancelled the run while a shielded step went on is heard before the body: it may block the loop from its first line.
            await anyio.lowlevel.checkpoint_if_cancelled()
            if payload.isolated is not None and payload.isolated.is_async:
                return await payload.isolated.arun(payload)
            return await remote.arun_attempt(payload) if payload.is_async else _perform(step)
        case Block(work=work, is_async=is_async):
            with anyio.CancelScope(shield=True):
                return await work() if is_async else await on_thread(work)
        case Sleep(seconds=seconds, payload=payload):
            with anyio.CancelScope() as scope:
                if payload is not None:
                    cancels.let_reach(payload, scope)
                await clock.current().asleep(seconds)
            return None
        case Wait(signals=signals, timeout=timeout, shield=shield):
            with anyio.CancelScope(shield=shield), anyio.move_on_after(timeout):
                await until_done(signals)
            return all(signal.done() for signal in signals)


def iterate(life: Life[T]) -> Generator[Any, Any, T]:
    """Drive a generator function's lifecycle: yield what its body yields.

    A consumer that wants no more values ends the run well: its body is closed where it stands, and its value is None.
    """
    is_wanted = True
    try:
        step = next(life)
        while True:
            receipt = Receipt()
            try:
                if not isinstance(step, Call):
                    given = _perform(step)
                else:
                    given = receipt
                    if is_wanted:
                        yield from remote.iterate_attempt(step.payload, receipt)
            except GeneratorExit:
                is_wanted = False
                step = life.send(receipt)
            except BaseException as error:
                step = life.throw(error)
            else:
                step = life.send(given)
    except StopIteration as stop:
        returned: T = stop.value
        return returned


async def aiterate(life: Life[Any]) -> AsyncGenerator[Any, Any]:
    """Drive an async generator function's lifecycle: yield what its body yields. A consumer may stop as in `iterate`."""
    is_wanted = True
    try:
        step = next(life)
        while True:
            receipt = Receipt()
            try:
                if not isinstance(step, Call):
                    given = await _aperform(step)
                else:
                    given = receipt
                    if is_wanted:
                        async with aclosing(remote.aiterate_attempt(step.payload, receipt)) as values:
                            async for value in values:
                                yield value
            except GeneratorExit:
                is_wanted = False
                step = life.send(receipt)
            except BaseException as error:
                step = life.throw(error)
            else:
                step = life.send(given)
    except StopIteration:
        return
