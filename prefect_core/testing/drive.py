"""The third driver of lifecycles: it answers each step itself, without a clock, a thread or an event loop.

A body or a hook runs where the driver stands, a delay passes at once, and a wait ends as the test says. At any step a fault can be thrown
into the lifecycle instead of an answer, or after the step was performed. So a test, or hypothesis, can go through every place at which
a run may be hit and look at what is left of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

from prefect_core import clock, context
from prefect_core.engine.steps import Block, Call, Life, Sleep, Step, Wait
from prefect_core.payload import Payload, Receipt

T = TypeVar("T")

MOST_STEPS = 10_000
"""A lifecycle that goes on after so many steps will not end."""


class Fault(NamedTuple):
    """What is thrown into a lifecycle at its n-th step, counted from 0: instead of performing it, or right `after` that."""

    step: int
    error: BaseException
    after: bool = False


class Driven(Generic[T]):
    """How a lifecycle went: its steps, and the value it returned or the error it raised."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.value: T | None = None
        self.error: BaseException | None = None

    def kinds(self) -> list[str]:
        """Return the names of the steps, in order."""
        return [type(step).__name__ for step in self.steps]

    def slept(self) -> list[float]:
        """Return the delays that passed, in seconds."""
        return [step.seconds for step in self.steps if isinstance(step, Sleep)]


def drive(
    life: Life[T],
    faults: Iterable[Fault] = (),
    call: Callable[[Payload], Receipt] | None = None,
    wait: Callable[[Wait], bool] | None = None,
) -> Driven[T]:
    """Drive a lifecycle to its end and tell how it went; raises nothing that the lifecycle raises.

    `call` answers for attempts (by default the body runs here), `wait` for waits (by default they find everything done).
    """
    driven: Driven[T] = Driven()
    planned = {fault.step: fault for fault in faults}
    try:
        step = next(life)
        while True:
            fault = planned.get(len(driven.steps))
            driven.steps.append(step)
            if len(driven.steps) > MOST_STEPS:
                raise AssertionError(f"The lifecycle has not ended after {MOST_STEPS} steps.")
            step = _answer(life, step, fault, call or attempt, wait or _all_done)
    except StopIteration as stop:
        driven.value = stop.value
    except BaseException as error:
        driven.error = error
    return driven


def _answer(
    life: Life[T], step: Step, fault: Fault | None, call: Callable[[Payload], Receipt], wait: Callable[[Wait], bool]
) -> Step:
    try:
        if fault is not None and not fault.after:
            raise fault.error
        given = _perform(step, call, wait)
        if fault is not None:
            raise fault.error
    except BaseException as error:
        return life.throw(error)
    return life.send(given)


def _perform(step: Step, call: Callable[[Payload], Receipt], wait: Callable[[Wait], bool]) -> Any:
    match step:
        case Call(payload=payload):
            return call(payload)
        case Block(work=work, is_async=is_async):
            return _finished(work()) if is_async else work()
        case Sleep():
            return None
        case Wait():
            return wait(step)


def attempt(payload: Payload) -> Receipt:
    """Run a body here and return its receipt. An async body may await only what is there already."""
    token = context.enter(payload.context)
    receipt = Receipt()
    receipt.started_us = clock.now_us()
    try:
        if payload.started is not None:
            payload.started(receipt.started_us)
        value = payload.function(*payload.args, **payload.kwargs)
        receipt.value = _finished(value) if payload.is_async else value
    except BaseException as error:
        receipt.error = error
    finally:
        context.leave(token)
    receipt.ended_us = clock.now_us()
    return receipt


def _finished(coroutine: Any) -> Any:
    """Run a coroutine that never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError(f"{coroutine!r} waits for an event loop, and the third driver has none.")


def _all_done(step: Wait) -> bool:
    if all(signal.done() for signal in step.signals):
        return True
    raise AssertionError(f"The lifecycle waits for {step.signals!r}, and nobody is there to end them: pass `wait`.")
