"""Ending bodies that take too long.

On the main thread an interval timer interrupts the body, sleeps included; nested deadlines share the one timer that a process has. On
any other thread nothing can interrupt Python code for certain, so the body runs on while its attempt ends at the deadline: a direct
call then runs its body in a thread of its own (`drive`), a submitted one is timed from outside (`launch`).

The timer interrupts only code of the user and the engine's own waits: the frame that it meets is looked at, and where the engine is in
the midst of moving a run from state to state, the timer comes again a moment later. Those places are marked as doors.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar

from prefect_core import clock, options, waiting
from prefect_core.engine import portal
from prefect_core.payload import Payload, Receipt
from prefect_core.validation import Validator

F = TypeVar("F", bound=Callable[..., Any])
_AGAIN_SECONDS = 0.001
_OWN_FILES = (str(Path(__file__).parents[1]) + os.sep, f"{os.sep}prefect_runners{os.sep}")
_TEST_KIT = f"{os.sep}prefect_core{os.sep}testing{os.sep}"
_doors: set[CodeType] = {
    function.__code__
    for function in (waiting.acquire, clock.SystemClock.sleep, portal.run, options.name_from, Validator.validate)
}


def too_late(payload: Payload) -> TimeoutError:
    """Make the exception of an attempt that its deadline ended."""
    return TimeoutError(f"Scope timed out after {payload.timeout_seconds} second(s).")


class DeadlinePassed(BaseException):
    """Raised by the timer inside a body; `deadline` is the one that passed, of this body or of one around it."""

    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self.deadline = deadline


class _Deadline:
    __slots__ = ("moment",)

    def __init__(self, moment: float) -> None:
        self.moment = moment


_deadlines: list[_Deadline] = []
"""Deadlines of the bodies on the main thread, outermost first."""


def _arm() -> None:
    if not _deadlines:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return
    left = min(deadline.moment for deadline in _deadlines) - clock.current().monotonic()
    signal.setitimer(signal.ITIMER_REAL, max(left, 1e-6))


def door(function: F) -> F:
    """Mark a function of the engine that calls code of a user or waits: whatever runs in it may be interrupted."""
    _doors.add(function.__code__)
    return function


def may_interrupt(frame: FrameType | None) -> bool:
    """Tell whether the innermost code of the engine on this stack is a door."""
    while frame is not None:
        code = frame.f_code
        if code in _doors:
            return True
        # The bodies of the test kit are a user's.
        if (
            code.co_filename.startswith(_OWN_FILES[0]) or _OWN_FILES[1] in code.co_filename
        ) and _TEST_KIT not in code.co_filename:
            return False
        frame = frame.f_back
    return True


def _on_alarm(_signum: int, frame: FrameType | None) -> None:
    if not may_interrupt(frame):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        return
    now = clock.current().monotonic()
    # The outermost one that has passed ends the inner bodies with it.
    for deadline in _deadlines:
        if deadline.moment <= now:
            raise DeadlinePassed(deadline)
    _arm()


def pass_on(error: Any) -> None:
    """Raise what ended a run if it is the deadline of a run around it: handing out the inner run's state must not stop that."""
    if type(error) is DeadlinePassed:
        raise error


def call_with_alarm(payload: Payload, receipt: Receipt, body: Callable[[Payload], Any]) -> Any:
    """Call `body(payload)` on the main thread, interrupted at its deadline; on another thread just call it."""
    if threading.current_thread() is not threading.main_thread():
        return body(payload)
    return _call_by(moment_of(payload), payload, receipt, partial(body, payload))


def moment_of(payload: Payload) -> float:
    """Return the deadline of an attempt that begins now, on the monotonic scale."""
    assert payload.timeout_seconds is not None
    return clock.current().monotonic() + payload.timeout_seconds


def call_piece(moment: float, payload: Payload, receipt: Receipt, piece: Callable[[], Any]) -> Any:
    """Call a piece of a generator's body that must end by `moment`; on another thread than the main one it is told afterwards."""
    if threading.current_thread() is threading.main_thread():
        return _call_by(moment, payload, receipt, piece)
    value = piece()
    if clock.current().monotonic() > moment:
        receipt.timed_out = True
        raise too_late(payload)
    return value


def _call_by(moment: float, payload: Payload, receipt: Receipt, body: Callable[[], Any]) -> Any:
    deadline = _Deadline(moment)
    before = signal.signal(signal.SIGALRM, _on_alarm)
    _deadlines.append(deadline)
    try:
        try:
            _arm()
            return body()
        finally:
            _deadlines.remove(deadline)
            _arm()
            signal.signal(signal.SIGALRM, before)
    except DeadlinePassed as expired:
        if expired.deadline is not deadline:
            _arm()
            raise
        receipt.timed_out = True
        raise too_late(payload) from None


def late_receipt(payload: Payload, begun_us: int) -> Receipt:
    """Make the receipt of an attempt whose body is still running at its deadline."""
    receipt = Receipt(error=too_late(payload), timed_out=True)
    receipt.started_us = begun_us
    receipt.ended_us = clock.now_us()
    return receipt
