"""The moments at which the lifecycle of a run may wait: a closed set of steps, and typed helpers to yield them.

A lifecycle is a generator that yields a step and receives what the step gave. It decides everything and waits for nothing; a driver
(`drive`, `launch`, or a test) performs the steps and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from prefect_core.moments import Work
from prefect_core.waiting import Signal

if TYPE_CHECKING:
    from prefect_core.moments import Moment, Moments
    from prefect_core.payload import Payload, Receipt

T = TypeVar("T")


class Call:
    """Run one attempt; gives its receipt, whatever the body did."""

    __slots__ = ("payload",)

    def __init__(self, payload: Payload) -> None:
        self.payload = payload


class Block:
    """Do work that may block this thread, or await `work()` on the flow's event loop if it is async; gives what it returned.

    It is carried through even if the run is being cancelled.
    """

    __slots__ = ("is_async", "work")

    def __init__(self, work: Callable[[], Any], is_async: bool = False) -> None:
        self.work = work
        self.is_async = is_async


class Sleep:
    """Let some seconds pass; fewer if the run is cancelled meanwhile, by the `scope` of its last attempt's payload."""

    __slots__ = ("payload", "seconds")

    def __init__(self, seconds: float, payload: Payload | None = None) -> None:
        self.seconds = seconds
        self.payload = payload


class Wait:
    """Wait until all signals are done, at most `timeout` seconds; gives whether they are.

    A shielded wait goes on although the run is being cancelled.
    """

    __slots__ = ("shield", "signals", "timeout")

    def __init__(self, signals: Collection[Signal], timeout: float | None = None, shield: bool = False) -> None:
        self.signals = signals
        self.timeout = timeout
        self.shield = shield


Step = Call | Block | Sleep | Wait
Life = Generator[Step, Any, T]


def of_moments(moments: Moments[T]) -> Life[T]:
    """Take what a lock or a transaction waits for in among the steps of a lifecycle."""
    try:
        moment = next(moments)
        while True:
            try:
                given = yield _step_of(moment)
            except BaseException as error:
                moment = moments.throw(error)
            else:
                moment = moments.send(given)
    except StopIteration as stop:
        value: T = stop.value
        return value


def _step_of(moment: Moment) -> Step:
    if isinstance(moment, Work):
        return Block(moment.call, moment.is_async)
    return Wait([moment]) if isinstance(moment, Signal) else Sleep(moment)


def attempt(payload: Payload) -> Life[Receipt]:
    """Run one attempt of a task, which its runner knows no more when it has ended."""
    receipt: Receipt = yield Call(payload)
    # What the runner knew it by refers to it: such circles keep the garbage collector busy.
    payload.handle = None
    return receipt


def block(work: Callable[[], T]) -> Life[T]:
    value: T = yield Block(work)
    return value


def wait(signals: Collection[Signal], timeout: float | None = None, shield: bool = False) -> Life[bool]:
    done: bool = yield Wait(signals, timeout, shield)
    return done
