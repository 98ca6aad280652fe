"""Ending bodies that take too long.

On the main thread an interval timer interrupts the body, sleeps included; nested deadlines share the one timer that a process has. On
any other thread nothing can interrupt Python code for certain, so the body runs on while its attempt ends at the deadline: a direct
call then runs its body in a thread of its own (`drive`), a submitted one is timed from outside (`launch`).
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from prefect_core import clock
from prefect_core.payload import Payload, Receipt


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


def _on_alarm(_signum: int, _frame: FrameType | None) -> None:
    now = clock.current().monotonic()
    # The outermost one that has passed ends the inner bodies with it.
    for deadline in _deadlines:
        if deadline.moment <= now:
            raise DeadlinePassed(deadline)
    _arm()


def call_with_alarm(payload: Payload, receipt: Receipt) -> Any:
    """Call the body on the main thread, interrupted at its deadline; on another thread just call it."""
    assert payload.timeout_seconds is not None
    if threading.current_thread() is not threading.main_thread():
        return payload.function(*payload.args, **payload.kwargs)
    deadline = _Deadline(clock.current().monotonic() + payload.timeout_seconds)
    before = signal.signal(signal.SIGALRM, _on_alarm)
    _deadlines.append(deadline)
    try:
        try:
            _arm()
            return payload.function(*payload.args, **payload.kwargs)
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
