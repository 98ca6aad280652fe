"""Ctrl-C and SIGTERM while a flow runs on the main thread.

SIGTERM, which would end Python at once, raises `TerminationSignal` there instead, so that the run can be closed; SIGINT raises
`KeyboardInterrupt` as ever. An event loop can't be interrupted at any place, and a task of it would keep the exception to itself: where a
loop runs async flows, these are cancelled, and the exception is raised behind them. A second SIGINT does what the loop does with one.

Like a deadline, a signal interrupts only code of the user and the engine's own waits; elsewhere it comes again a moment later. It also
comes again to flows on a loop until the loop has come round to cancelling them: a `def` body or a blocking wait that was about to begin
when it came would keep the loop from that, and is interrupted then.
"""

from __future__ import annotations

import _thread
import atexit
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

from prefect_core import loops, waiting
from prefect_core.engine import cancels
from prefect_core.engine.deadlines import forget_frame, may_interrupt
from prefect_core.errors import TerminationSignal

_noted: list[int] = []
_before: dict[int, Any] = {}
_cancels: list[Callable[[], object]] = []
"""What cancels the async flows on the main thread's loop."""
_waiting: list[loops.LoopFlag] = []
_sent_again: list[int] = []
_AGAIN_SECONDS = 0.001
_LONGEST_PAUSE_SECONDS = 0.1
_ROUNDS = 3
"""After so many rounds of the loop, each task that could still go on when it was cancelled has been told so at an await."""
_watches = 0


class _Loop:
    """The main thread's loop, as far as it has come with a signal."""

    def __init__(self) -> None:
        self.is_told = False
        self.has_come_round = False
        self.pause = _AGAIN_SECONDS

    def come_round(self, door: loops.Door, rounds: int = _ROUNDS) -> None:
        """Take note when the loop, which runs this, has gone round that often."""
        if rounds:
            door.call_soon(self.come_round, door, rounds - 1)
        else:
            self.has_come_round = True


_loop = _Loop()

_SYNC_BODY = ("prefect_core.engine.remote", "_perform")
"""What calls `def` bodies. Inside of one a signal may be raised, although a loop waits around it and would only be told."""


@contextmanager
def watched() -> Iterator[None]:
    """Watch both signals for the length of the block, and of other such blocks meanwhile; does nothing on other threads."""
    global _watches
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if not _watches:
        _begin()
    _watches += 1
    try:
        yield
    finally:
        _watches -= 1
        if not _watches:
            _end()


@asynccontextmanager
async def watched_on_loop() -> AsyncIterator[None]:
    """Do the same in an async flow: a signal cancels the block, and is raised at its end."""
    import anyio  # only async code comes here

    with watched():
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        door = loops.door_here()
        with anyio.CancelScope() as scope:
            cancel = partial(door.call_from_signal, partial(_cancel_here, scope, door))
            end_hearing = door.hear_signals() if not _cancels else bool
            _cancels.append(cancel)
            if _noted:
                scope.cancel()
            try:
                yield
            finally:
                _cancels.remove(cancel)
                end_hearing()
        if scope.cancel_called:
            await _until_others_have_left()
            raise _as_exception(_noted[-1])


def _cancel_here(scope: Any, door: loops.Door) -> None:
    scope.cancel()
    _loop.come_round(door)


async def _until_others_have_left() -> None:
    """Wait for the other flows that the signal cancelled: the first exit that is raised stops the loop under all of them."""
    if _cancels:
        _waiting.append(loops.LoopFlag())
        await _waiting[-1].wait()
        return
    for flag in _waiting:
        flag.set()
    _waiting.clear()


def _begin() -> None:
    global _loop
    _loop = _Loop()
    _noted.clear()
    _sent_again.clear()
    for number, handler in ((signal.SIGINT, _on_interrupt), (signal.SIGTERM, _on_terminate)):
        before = signal.getsignal(number)
        if before is signal.SIG_DFL or (number == signal.SIGINT and before not in (signal.SIG_IGN, None)):
            _before[number] = before
            signal.signal(number, handler)
    cancels.begin_hearing()


def _end() -> None:
    for number, before in _before.items():
        # A program that set its own meanwhile keeps it.
        if signal.getsignal(number) in (_on_interrupt, _on_terminate):
            signal.signal(number, before)
    _before.clear()
    cancels.end_hearing()
    forget_frame()


def _on_interrupt(number: int, frame: FrameType | None) -> Any:
    is_again = _note(number)
    is_first = _noted.count(number) == 1
    is_in_body = _is_in_sync_body(frame)
    if is_in_body and is_first and is_again and _is_cleaning_up():
        return None
    if not is_in_body and is_first and _cancel_flows(number):
        return None
    if (is_in_body or not _cancels) and not may_interrupt(frame):
        _send_again(number)
        return None
    before = _before.get(number)
    if callable(before) and not is_in_body:
        return before(number, frame)
    raise KeyboardInterrupt


def _on_terminate(number: int, frame: FrameType | None) -> None:
    is_again = _note(number)
    is_in_body = _is_in_sync_body(frame)
    if is_in_body and is_again and _is_cleaning_up():
        return
    if not is_in_body and _cancel_flows(number):
        return
    if not may_interrupt(frame):
        _send_again(number)
        return
    raise TerminationSignal(number)


def _note(number: int) -> bool:
    """Note a signal, but one that was sent again only the first time; tell whether it was sent again."""
    is_again = number in _sent_again
    (_sent_again.remove if is_again else _noted.append)(number)
    return is_again


def _is_cleaning_up() -> bool:
    """Tell whether this code has heard of the cancellation already, and runs because of it."""
    error = sys.exc_info()[1] if _loop.is_told else None
    while error is not None and not is_cancellation(error):
        error = error.__context__
    return error is not None


def _send_again(number: int) -> None:
    """Have this thread hear a signal once more when it may be somewhere else."""
    _sent_again.append(number)
    # Not by `threading`, whose locks this thread may hold right now.
    _thread.start_new_thread(_send_soon, (number, threading.get_ident()))


def _send_soon(number: int, to_thread: int) -> None:
    time.sleep(_AGAIN_SECONDS)
    signal.pthread_kill(to_thread, number)


def _send_if_loop_is_blocked(number: int, to_thread: int, loop: _Loop) -> None:
    time.sleep(loop.pause)
    # It may be the user's own code that blocks it, for long.
    loop.pause = min(2 * loop.pause, _LONGEST_PAUSE_SECONDS)
    if not loop.has_come_round and loop is _loop and _watches:
        _sent_again.append(number)
        signal.pthread_kill(to_thread, number)


def _cancel_flows(number: int) -> bool:
    """Cancel the async flows on this thread's loop; False if there are none."""
    try:
        if not _loop.is_told:
            for cancel in _cancels:
                cancel()
    except RuntimeError:
        # Their loop was closed under them.
        _cancels.clear()
    if _cancels:
        _loop.is_told = True
        if not _loop.has_come_round:
            _thread.start_new_thread(_send_if_loop_is_blocked, (number, threading.get_ident(), _loop))
    return bool(_cancels)


def _as_exception(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else TerminationSignal(number)


def _is_in_sync_body(frame: FrameType | None) -> bool:
    """Tell whether this is the body of a sync run, or a wait that blocks the loop's thread, which no cancellation reaches."""
    if frame is not None and frame.f_code is waiting.acquire.__code__ and loops.running_loop() is not None:
        return True
    while frame is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) == _SYNC_BODY:
            return True
        frame = frame.f_back
    return False


def was_signalled() -> bool:
    """Tell whether Ctrl-C or SIGTERM came since the first of the flows on the main thread began."""
    return bool(_noted)


def cause_of(error: BaseException) -> BaseException:
    """Return what is behind a cancellation: the signal that was noted during the watch, else the cancellation itself."""
    if not _noted or not is_cancellation(error):
        return error
    return _as_exception(_noted[-1])


def pass_on(error: Any) -> None:
    """Raise what ended a run if a signal did: handing out the run's state must not keep the program from ending."""
    if _noted and isinstance(error, KeyboardInterrupt | TerminationSignal):
        raise error


def _keep_exit_code() -> None:
    """Have Python end as by SIGINT if an interrupt is what ended the program, whatever other threads executed since.

    CPython notes an interrupt that nobody caught where the program's code was executed, and forgets it whenever any thread executes
    the text of a program, as each import of a named tuple or a data class does. Here it is made to note it again.
    """
    if getattr(sys, "last_type", None) is KeyboardInterrupt and signal.SIGINT in _noted:
        with suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")


# Here rather than when a signal comes, so that it runs after all that is registered later.
atexit.register(_keep_exit_code)


def is_cancellation(error: BaseException) -> bool:
    """Tell whether an event loop cancelled the body; asks by name, so that no event loop library is loaded."""
    return type(error).__name__ in {"CancelledError", "Cancelled"} and not isinstance(error, Exception)
