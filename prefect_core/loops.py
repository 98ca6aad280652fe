"""The seam between threads and event loops: which loop runs here, and how another thread reaches it.

A `Door` stands for one running loop, of asyncio or trio. Anything may be called through it from any thread; it then runs on the loop's
own thread, soon, in the order of the calls.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol


class Door(Protocol):
    """One event loop, reached from any thread."""

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Run `function(*args)` on the loop's thread, soon. Raises `RuntimeError` if the loop has ended."""
        ...

    def call_from_signal(self, function: Callable[..., object]) -> None:
        """Do the same from a signal handler, which may have interrupted the loop anywhere, its sleep included."""
        ...

    def hear_signals(self) -> Callable[[], object]:
        """See that a signal wakes the loop, on the main thread, even one that comes as it falls asleep; returns what ends that."""
        ...


class _AsyncioDoor:
    __slots__ = ("loop", "thread")

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.thread = threading.get_ident()

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        if threading.get_ident() == self.thread:
            self.loop.call_soon(function, *args)
        else:
            self.loop.call_soon_threadsafe(function, *args)

    def call_from_signal(self, function: Callable[..., object]) -> None:
        self.loop.call_soon_threadsafe(function)

    def hear_signals(self) -> Callable[[], object]:
        import signal  # only an async flow on the main thread comes here
        import socket

        heard, written = socket.socketpair()
        for end in (heard, written):
            end.setblocking(False)
        before = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        if before == -1:
            self.loop.add_reader(heard, heard.recv, 4096)
        else:
            # This loop hears them already.
            signal.set_wakeup_fd(before)

        def end_hearing() -> None:
            if before == -1:
                signal.set_wakeup_fd(-1)
                self.loop.remove_reader(heard)
            heard.close()
            written.close()

        return end_hearing


class _TrioDoor:
    __slots__ = ("token",)

    def __init__(self, token: Any) -> None:
        self.token = token

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        self.token.run_sync_soon(function, *args)

    def call_from_signal(self, function: Callable[..., object]) -> None:
        self.token.run_sync_soon(function)

    def hear_signals(self) -> Callable[[], object]:
        # Trio does.
        return bool


def _look_for_asyncio() -> object | None:
    """Return asyncio's running loop, and let it be asked without a search from now on; None while it is not loaded."""
    global _asyncio_loop
    found: Callable[[], object | None] | None = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    if found is None:
        return None
    _asyncio_loop = found
    return found()


_asyncio_loop: Callable[[], object | None] = _look_for_asyncio


def running_loop() -> object | None:
    """Return what identifies the event loop that runs on this thread, or None. Imports no event loop library."""
    # Both may be there in part: another thread is about to import them. Then no loop of theirs runs yet.
    loop = _asyncio_loop()
    if loop is not None:
        return loop
    lowlevel: Any = getattr(sys.modules.get("trio"), "lowlevel", None)
    if hasattr(lowlevel, "in_trio_run") and lowlevel.in_trio_run():
        token: object = lowlevel.current_trio_token()
        return token
    return None


def cancel_all() -> None:
    """Have all that the event loop on this thread runs for its user cancelled, soon; may be called from a signal handler."""
    loop: Any = running_loop()
    if hasattr(loop, "call_soon_threadsafe"):
        loop.call_soon_threadsafe(_cancel_tasks, loop)
    else:
        loop.run_sync_soon(_cancel_main_task)


def _cancel_tasks(loop: Any) -> None:
    for task in sys.modules["asyncio"].all_tasks(loop):
        task.cancel()


def _cancel_main_task() -> None:
    root = sys.modules["trio"].lowlevel.current_root_task()
    # Trio's own two come first.
    for nursery in root.child_nurseries[2:]:
        nursery.cancel_scope.cancel()


def call_on(loop: Any, function: Callable[[], object]) -> None:
    """Run a function on the thread of a loop, soon; called on any thread. Raises `RuntimeError` if the loop has ended."""
    if hasattr(loop, "call_soon_threadsafe"):
        loop.call_soon_threadsafe(function)
    else:
        loop.run_sync_soon(function)


def is_being_cancelled() -> bool:
    """Tell whether somebody asked asyncio to cancel the running task. Trio and anyio ask again until they are heard."""
    asyncio = sys.modules.get("asyncio")
    running = getattr(asyncio, "_get_running_loop", None)
    if asyncio is None or running is None or running() is None:
        return False
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())


def door_here() -> Door:
    """Return the door of the loop that runs on this thread. Raises `RuntimeError` if none does."""
    loop = running_loop()
    if loop is None:
        raise RuntimeError("No event loop runs on this thread.")
    return (
        _AsyncioDoor(loop)
        if "asyncio" in type(loop).__module__ or hasattr(loop, "call_soon_threadsafe")
        else _TrioDoor(loop)
    )


class LoopFlag:
    """An event that is awaited on the loop it was made on and set from anywhere, once."""

    __slots__ = ("_door", "_event")

    def __init__(self) -> None:
        import anyio  # only async code comes here

        self._door = door_here()
        self._event = anyio.Event()

    def set(self, *_: object) -> None:
        """Wake who waits; harmless when the loop has ended."""
        try:
            self._door.call_soon(self._event.set)
        except RuntimeError:
            # The loop is closed (asyncio) or its run is over (trio): nobody waits any more.
            return

    async def wait(self) -> None:
        await self._event.wait()
