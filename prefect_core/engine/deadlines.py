"""Ending bodies that take too long.

On the main thread an interval timer interrupts the body, sleeps included; nested deadlines share the one timer that a process has. On
any other thread nothing can interrupt Python code for certain, so the body runs on while its attempt ends at the deadline: a direct
call then runs its body in a thread of its own (`drive`), a submitted one is timed from outside (`launch`).

The timer interrupts only code of the user and the engine's own waits, which are marked as doors: the frame that it meets is looked at, and
where the engine is in the midst of moving a run from state to state, the timer comes again a moment later. It also does so where an
exception would be swallowed (`__del__`), and where the standard library takes and gives back locks: in `Condition.wait`, one that is
raised between giving the lock back and the wait itself leaves it unlocked for whoever unlocks it next. There it interrupts only what it
meets twice at the same place, which is blocked.

An event loop that a `def` body runs is not interrupted, which would break it: what it runs is cancelled, and ends at its next await.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from prefect_core import clock, loops, options, waiting
from prefect_core.future_streams import PrefectFutureStream
from prefect_core.payload import Payload, Receipt
from prefect_core.validation import Validator

if TYPE_CHECKING:
    from prefect_core.runs import Run

F = TypeVar("F", bound=Callable[..., Any])
_AGAIN_SECONDS = 0.001
_UNTIL_REPEATED_SECONDS = 0.05
"""The alarm repeats until it is answered: the kernel may hand one to a thread that is just being started, and the main one sleeps on."""
_OWN_FILES = (str(Path(__file__).parents[1]) + os.sep, f"{os.sep}prefect_runners{os.sep}")
_TEST_KIT = f"{os.sep}prefect_core{os.sep}testing{os.sep}"
_LOGGING_FILE = str(Path(threading.__file__).parent / "logging" / "__init__.py")
_LOCKING = {"__enter__", "__exit__", "_acquire_restore", "_is_owned", "_release_save"}
"""Functions of `threading` that take or give back a lock for their caller."""
_doors: set[CodeType] = {
    function.__code__
    for function in (
        waiting.acquire,
        clock.SystemClock.sleep,
        options.name_from,
        Validator.validate,
        PrefectFutureStream.take_next,
    )
}


def too_late(payload: Payload) -> TimeoutError:
    """Make the exception of an attempt that its deadline ended."""
    return TimeoutError(f"Scope timed out after {payload.timeout_seconds} second(s).")


class DeadlinePassed(BaseException):
    """Raised by the timer inside a body, once; `deadline` is the one that passed, of this body or of one around it."""

    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self.deadline = deadline


class CancelHere(BaseException):
    """Raised inside a body when `run`, its own or one around it, is being cancelled."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run


class _Deadline:
    __slots__ = ("has_struck", "is_over", "loop", "moment")

    def __init__(self, moment: float) -> None:
        self.moment = moment
        self.loop = loops.running_loop()  # the one around the body
        self.has_struck = False
        self.is_over = False  # it has struck, or one around it has: what cleans up behind that is left to end


_deadlines: list[_Deadline] = []
"""Deadlines of the bodies on the main thread, outermost first."""


def _arm() -> None:
    moments = [deadline.moment for deadline in _deadlines if not deadline.is_over]
    left = max(min(moments) - clock.current().monotonic(), 1e-6) if moments else 0
    signal.setitimer(signal.ITIMER_REAL, left, _UNTIL_REPEATED_SECONDS)


def door(function: F) -> F:
    """Mark a function of the engine that calls code of a user or waits: whatever runs in it may be interrupted."""
    _doors.add(function.__code__)
    return function


def may_interrupt(frame: FrameType | None) -> bool:
    """Tell whether an exception may be raised in this frame of the main thread; if not, it is to be asked again a moment later."""
    global _met
    here = (frame, frame.f_lasti) if frame is not None else None
    if (frame is not None and here != _met and _is_locking(frame)) or not _is_behind_a_door(frame):
        _met = here
        return False
    _met = None
    return True


_met: tuple[FrameType, int] | None = None
"""Where it was asked last, and the answer was no."""


def forget_frame() -> None:
    """Let go of the frame that was met last, and of the values in it."""
    global _met
    _met = None


def _is_locking(frame: FrameType) -> bool:
    """Tell whether this is code of the standard library that an exception may make leave a lock in the wrong state."""
    code = frame.f_code
    if code is _CONDITION_WAIT:
        # Between giving the lock back and the `try` behind which it is taken again.
        return "waiter" in frame.f_locals and "gotit" not in frame.f_locals
    return code.co_filename == _LOGGING_FILE or (code.co_filename == threading.__file__ and code.co_name in _LOCKING)


_CONDITION_WAIT = threading.Condition.wait.__code__


def _is_behind_a_door(frame: FrameType | None) -> bool:
    """Tell whether the innermost code of the engine on this stack is a door, and no finalizer runs on top of it."""
    while frame is not None:
        code = frame.f_code
        if code in _doors:
            return True
        # The bodies of the test kit are a user's.
        is_own = code.co_filename.startswith(_OWN_FILES[0]) or _OWN_FILES[1] in code.co_filename
        if code.co_name == "__del__" or (is_own and _TEST_KIT not in code.co_filename):
            return False
        frame = frame.f_back
    return True


def _on_alarm(_signum: int, frame: FrameType | None) -> None:
    now = clock.current().monotonic()
    # The outermost one that has passed ends the inner bodies with it.
    late = next((deadline for deadline in _deadlines if deadline.moment <= now and not deadline.is_over), None)
    if late is None:
        # This alarm was on its way when its body ended.
        _arm()
    elif may_interrupt(frame):
        _strike(late)
    else:
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS, _UNTIL_REPEATED_SECONDS)


def _strike(late: _Deadline) -> None:
    late.has_struck = True
    for deadline in _deadlines[_deadlines.index(late) :]:
        deadline.is_over = True
    _arm()
    loop = loops.running_loop()
    if loop is None or loop is late.loop:
        raise DeadlinePassed(late)
    loops.cancel_all()


def pass_on(error: Any) -> None:
    """Raise what ended a run if it is the deadline of a run around it, or the end of one that is being cancelled.

    Handing out the inner run's state must not stop that.
    """
    if type(error) is DeadlinePassed or type(error) is CancelHere:
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
    try:
        value = piece()
    except Exception:
        # `StopIteration` too: what a generator returns too late is dropped as what it yields too late.
        _check_moment(moment, payload, receipt)
        raise
    _check_moment(moment, payload, receipt)
    return value


def _check_moment(moment: float, payload: Payload, receipt: Receipt) -> None:
    if clock.current().monotonic() > moment:
        receipt.timed_out = True
        raise too_late(payload) from None


def _call_by(moment: float, payload: Payload, receipt: Receipt, body: Callable[[], Any]) -> Any:
    deadline = _Deadline(moment)
    # A program may have a timer of its own under way, as the timeouts of test runners do.
    users_timer, begun = (
        (signal.getitimer(signal.ITIMER_REAL), time.monotonic()) if not _deadlines else ((0.0, 0.0), 0.0)
    )
    before = signal.signal(signal.SIGALRM, _on_alarm)
    _deadlines.append(deadline)
    try:
        try:
            _arm()
            return body()
        finally:
            _deadlines.remove(deadline)
            _arm()
            forget_frame()
            signal.signal(signal.SIGALRM, before if before is not None else signal.SIG_DFL)
            if users_timer[0]:
                left = max(users_timer[0] - (time.monotonic() - begun), 1e-6)
                signal.setitimer(signal.ITIMER_REAL, left, users_timer[1])
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # Whatever the body made of the interruption on its way out: another exception, a group, a cancelled loop.
        if not deadline.has_struck or (isinstance(error, DeadlinePassed) and error.deadline is not deadline):
            raise
        receipt.timed_out = True
        raise too_late(payload) from None


def late_receipt(payload: Payload, begun_us: int) -> Receipt:
    """Make the receipt of an attempt whose body is still running at its deadline."""
    receipt = Receipt(error=too_late(payload), timed_out=True)
    receipt.started_us = begun_us
    receipt.ended_us = clock.now_us()
    return receipt
