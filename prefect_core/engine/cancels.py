"""What of a cancellation reaches bodies: whether one has come for a run, and the exception that ends a body on the main thread.

A run that is being cancelled is in the state Cancelling, which is all that lifecycles and bodies need to know. They look for it where a
body could otherwise not be told, and only while something is being cancelled in this process.

A body on the main thread is interrupted like one that is late (`deadlines`), sleeps and waits included, by an exception that ends the
bodies inside of the run with it and goes no further. The signal for it is SIGURG, which does nothing to a program that does not ask for
it. Its handler looks at the stack: the body that is interrupted must be that of the run, or of one inside of it. In any other thread
nothing can interrupt Python code for certain: there a body ends at its next call of a task or a flow.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from prefect_core import loops
from prefect_core.context import TaskRunContext
from prefect_core.engine.deadlines import CancelHere, may_interrupt
from prefect_core.state_kinds import CANCELLING

if TYPE_CHECKING:
    from prefect_core.context import RunContext
    from prefect_core.payload import Payload
    from prefect_core.runs import Run

NUMBER = signal.SIGURG
_LOOP_FILES = (f"{os.sep}asyncio{os.sep}base_events.py", f"{os.sep}trio{os.sep}_core{os.sep}_run.py")
_BODIES = {
    ("prefect_core.engine.remote", "_perform"): "payload",
    ("prefect_core.engine.remote", "_inside"): "payload",
    ("prefect_core.engine.launch", "_perform_here"): "self",
    ("prefect_core.engine.drive", "run"): "life",
    ("prefect_core.engine.drive", "iterate"): "life",
}
"""Functions that are on the stack while a run is under way on a thread, and the variable that tells which."""


class UnderWay(Protocol):
    """One cancellation."""

    run: Run
    by: float
    """When it must have ended, on the monotonic scale."""


_under_way: list[UnderWay] = []
"""The cancellations that are under way in this process: without any, nobody pays for looking."""


def begin(cancellation: UnderWay) -> None:
    """Have bodies and lifecycles look whether they are being cancelled; before a run of this process is Cancelling."""
    _under_way.append(cancellation)


def end(cancellation: UnderWay) -> None:
    """End that: the run is Cancelling no more."""
    _under_way.remove(cancellation)


def has_come_for(around: RunContext | None) -> bool:
    """Tell whether the run of a context, or one around it, is being cancelled."""
    if not _under_way:
        return False
    while around is not None:
        if around.run.state.type is CANCELLING:
            return True
        around = around.parent
    return False


def seconds_left(around: RunContext | None) -> float | None:
    """Return how long a body has to end whose run, or one around it, is being cancelled; None if none is."""
    moments: list[float] = []
    while around is not None and _under_way:
        if around.run.state.type is CANCELLING:
            moments += [one.by for one in _under_way if one.run is around.run]
        around = around.parent
    return max(0.0, min(moments) - time.monotonic()) if moments else None


def exception_for(around: RunContext | None) -> CancelHere | None:
    """Make what ends a body if its run, or one around it, is being cancelled; None if none is."""
    if not _under_way:
        return None
    found: Run | None = None
    while around is not None:
        if around.run.state.type is CANCELLING:
            found = around.run
        around = around.parent
    return CancelHere(found) if found is not None else None


def let_reach(payload: Payload, scope: Any) -> None:
    """Let what the event loop of this thread does within a cancel scope be cancelled, at once if its run is being cancelled already."""
    payload.scope = scope.cancel, loops.running_loop()
    # In this order, and the other way round where it is cancelled.
    if _under_way and has_come_for(payload.context):
        scope.cancel()


def end_body_of(around: RunContext) -> None:
    """Raise what ends the body of a task that makes a further call although it is being cancelled; bodies of flows hear of it otherwise."""
    if isinstance(around, TaskRunContext):
        raise CancelHere(around.task_run)


def moment_for(around: RunContext | None) -> float | None:
    """Return when what is being cancelled must have ended, on the monotonic scale of `time`; None where nothing is."""
    moments: list[float] = []
    while around is not None:
        if around.run.state.type is CANCELLING and around.dispatcher is not None and around.dispatcher.cancel_by:
            moments.append(around.dispatcher.cancel_by)
        around = around.parent
    return min(moments, default=None)


class Strike:
    """That the body of a run is to be interrupted, once, should it run on the main thread."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.has_struck = False

    def send(self) -> bool:
        """Have the main thread look; to be repeated, since it may be where it can't be interrupted. False if it has been."""
        if self.has_struck or signal.getsignal(NUMBER) is not _on_signal:
            return False
        if self not in _wanted:
            _wanted.append(self)
        signal.pthread_kill(threading.main_thread().ident or 0, NUMBER)
        return True

    def withdraw(self) -> None:
        """Interrupt nothing any more."""
        if self in _wanted:
            _wanted.remove(self)


_wanted: list[Strike] = []
hears_for_good = False
"""Whether runs on the main thread can be interrupted from now on, also between root flow runs; or can't, and nobody need try again."""


def begin_hearing() -> None:
    """Let runs on this, the main, thread be interrupted, unless the program uses the signal itself."""
    if signal.getsignal(NUMBER) is signal.SIG_DFL:
        signal.signal(NUMBER, _on_signal)


def end_hearing() -> None:
    """End that, unless it is for good."""
    if not hears_for_good and signal.getsignal(NUMBER) is _on_signal:
        signal.signal(NUMBER, signal.SIG_DFL)


def hear_for_good() -> None:
    """Let runs on the main thread be interrupted to the end of the process, if this is that thread.

    For calls outside of flows: to ask for the signal and give it back would cost more than all else that keeps them cancellable.
    """
    global hears_for_good
    if threading.get_ident() == threading.main_thread().ident:
        hears_for_good = True
        begin_hearing()


def _on_signal(_number: int, frame: FrameType | None) -> None:
    for strike in tuple(_wanted):
        if strike.has_struck or strike.run.state.type is not CANCELLING or not _is_inside(strike.run, frame):
            continue
        if not may_interrupt(frame):
            return
        strike.has_struck = True
        if _is_in_own_loop(frame):
            # An exception would break the loop, and a task of it keep it to itself.
            loops.cancel_all()
            return
        raise CancelHere(strike.run)


def _is_inside(run: Run, frame: FrameType | None) -> bool:
    """Tell whether the innermost run on this stack is that run, or inside of it."""
    found = _body_of(frame)
    around = _context_of(found) if found is not None else None
    while around is not None:
        if around.run is run:
            return True
        around = around.parent
    return False


def _is_in_own_loop(frame: FrameType | None) -> bool:
    """Tell whether an event loop runs inside of the innermost body: one that this body started."""
    body = _body_of(frame)
    while frame is not None and frame is not body:
        if frame.f_code.co_filename.endswith(_LOOP_FILES):
            return True
        frame = frame.f_back
    return False


def _body_of(frame: FrameType | None) -> FrameType | None:
    while frame is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) in _BODIES and _context_of(frame) is not None:
            return frame
        frame = frame.f_back
    return None


def _context_of(frame: FrameType) -> RunContext | None:
    name = _BODIES[frame.f_globals["__name__"], frame.f_code.co_name]
    found: Any = frame.f_locals.get(name)
    if name == "life":
        inside = getattr(found, "gi_frame", None)
        found = inside.f_locals.get("call") if inside is not None else None
    elif name == "self":
        found = found._call
    return getattr(found, "context", None)
