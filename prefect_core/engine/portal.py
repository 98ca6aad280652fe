"""Event loops that async bodies run on: the loop of an async flow, or one loop in a thread for everything that is not async.

Both are reached from any thread by `spawn`. Thousands of spawns from a foreign thread wake the loop once, not once each.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from prefect_core import loops, waiting

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

T = TypeVar("T")
AsyncFunction = Callable[..., Coroutine[Any, Any, T]]


class LoopHost:
    """One running loop and the task group in which spawned bodies run."""

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self._door = loops.door_here()
        self._inbox: deque[_Spawned] = deque()
        self._lock = threading.Lock()
        self._is_woken = False
        self._arrival: Any = None
        # Whoever cancels the group must not keep what other threads spawned from starting: somebody waits for its end.
        self._receiver = _Spawned(self._door, self._receive, (), shield=True)
        self.loop = loops.running_loop()
        group.start_soon(self._receiver.run)

    def close(self) -> None:
        """Let the task group end when what runs in it has; called on the loop."""
        self._receiver.cancel()

    def spawn(self, function: AsyncFunction[None], *args: Any) -> Callable[[], object]:
        """Run the coroutine function on the loop; returns what cancels it, callable from any thread."""
        spawned = _Spawned(self._door, function, args)
        if loops.running_loop() is self.loop:
            self._group.start_soon(spawned.run)
        else:
            self._inbox.append(spawned)
            with self._lock:
                must_wake, self._is_woken = not self._is_woken, True
            if must_wake:
                self._door.call_soon(self._wake)
        return spawned.cancel

    def _wake(self) -> None:
        if self._arrival is not None:
            self._arrival.set()

    async def _receive(self) -> None:
        """Start what other threads spawned; a task of its own, since only a task may start others."""
        import anyio  # only async code comes here

        while True:
            self._arrival = anyio.Event()
            with self._lock:
                self._is_woken = False
            while self._inbox:
                self._group.start_soon(self._inbox.popleft().run)
            await self._arrival.wait()


class _Spawned:
    """A coroutine function on its way to a loop, or running there."""

    __slots__ = ("_args", "_door", "_function", "_is_cancelled", "_scope", "_shield")

    def __init__(
        self, door: loops.Door, function: AsyncFunction[None], args: tuple[Any, ...], shield: bool = False
    ) -> None:
        self._door = door
        self._function = function
        self._args = args
        self._shield = shield
        self._scope: Any = None
        self._is_cancelled = False

    async def run(self) -> None:
        import anyio  # only async code comes here

        # A cancel scope can be made on its own loop only.
        with anyio.CancelScope(shield=self._shield) as self._scope:
            if self._is_cancelled:
                self._scope.cancel()
            await self._function(*self._args)

    def cancel(self) -> None:
        self._is_cancelled = True
        # The loop may have ended, and this with it.
        with suppress(RuntimeError):
            self._door.call_soon(self._cancel_here)

    def _cancel_here(self) -> None:
        if self._scope is not None:
            self._scope.cancel()


class _Portal:
    """An asyncio loop in a daemon thread, started when first needed and kept until the process ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._host: LoopHost | None = None

    def host(self) -> LoopHost:
        if self._host is None:
            with self._lock:
                if not self._ready.is_set():
                    threading.Thread(target=self._serve, name="prefect-core-portal", daemon=True).start()
                    self._ready.wait()
        assert self._host is not None
        return self._host

    def _serve(self) -> None:
        import anyio  # only async code comes here

        anyio.run(self._main)

    async def _main(self) -> None:
        import anyio

        async with anyio.create_task_group() as group:
            self._host = LoopHost(group)
            self._ready.set()
            await anyio.sleep_forever()


_portal = _Portal()


def host() -> LoopHost:
    """Return the loop in a thread."""
    return _portal.host()


def run(function: AsyncFunction[T], *args: Any, place: waiting.Slot | None = None) -> T:
    """Run a coroutine function on the loop in a thread and block until it has ended; `place` is given back meanwhile.

    Called on that loop's own thread, where blocking would never end, it runs it in a further thread with a loop of its own.
    """
    import anyio  # only async code comes here

    outcome: list[Any] = []
    over = threading.Lock()
    over.acquire()

    async def carry_out() -> None:
        try:
            outcome.append((await function(*args), None))
        except BaseException as error:
            outcome.append((None, error))
            if isinstance(error, anyio.get_cancelled_exc_class()):
                raise
        finally:
            over.release()

    portal = _portal.host()
    if loops.running_loop() is portal.loop:
        _run_in_new_thread(carry_out)
    else:
        cancel = portal.spawn(carry_out)
        try:
            waiting.acquire(over, None, partial(place.give_back, lambda: bool(outcome)) if place is not None else None)
        except BaseException:
            cancel()
            raise
    value, error = outcome[0]
    if error is not None:
        raise error
    returned: T = value
    return returned


def _run_in_new_thread(function: AsyncFunction[None]) -> None:
    import anyio

    thread = threading.Thread(target=anyio.run, args=(function,), daemon=True)
    thread.start()
    thread.join()


def _renew() -> None:
    global _portal
    _portal = _Portal()


os.register_at_fork(after_in_child=_renew)
