"""Places for bodies that may wait on futures without blocking others: daemon threads on demand, and async bodies beside them.

At most `limit` bodies run at once: `def` bodies one to a thread, async ones on whatever loop they are started on. A body that waits on our futures gives its place back (`futures.Slot`): another
body may then start, on a further thread if need be, and the waiting one goes on only when a place is free again. So nested waits end
at any depth, with one place too.

The first threads start with the first calls. Above `_PROMPT` threads a sentry looks every few milliseconds and adds some only while
bodies are slow: thousands of tiny calls are done sooner by a few threads than by hundreds.

The threads are daemons: a body that can't be interrupted never keeps the process from ending.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

from prefect_core import futures
from prefect_core.loops import LoopFlag

_IDLE_SECONDS = 10.0
_SENTRY_SECONDS = 0.005
_PROMPT = min(32, (os.cpu_count() or 1) + 4)

Call = Callable[[], object]


class ThreadPool:
    """Runs calls in order of arrival on at most `limit` threads at once."""

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._lock = threading.Lock()
        self._arrival = threading.Condition(self._lock)
        self._vacancy = threading.Condition(self._lock)
        self._work: deque[Call | AsyncPlace] = deque()
        self._returning_async: deque[AsyncPlace] = deque()
        self._places: dict[Call, _Place] = {}
        self._busy = 0  # places held by running bodies
        self._idle = 0  # threads that wait for work
        self._returning = 0  # bodies that want their place again
        self._threads = 0
        self._finished = 0
        self._has_sentry = False
        self._closed = False

    def submit(self, call: Call) -> None:
        """Run `call` on a thread of the pool; it must not raise. Raises `RuntimeError` after `close`."""
        with self._lock:
            if self._closed:
                raise RuntimeError("The thread pool is closed.")
            self._work.append(call)
            self._staff(self._threads < _PROMPT)

    def submit_async(self, start: Callable[[AsyncPlace], object]) -> AsyncPlace:
        """Call `start(place)` when there is a place for an async body; who runs it calls `place.leave()` at its end."""
        place = AsyncPlace(self, start)
        with self._lock:
            self._work.append(place)
            self._staff(may_start=True)
        return place

    def withdraw(self, call: Call | AsyncPlace) -> bool:
        """Take back a call that has not begun; False if it has."""
        with self._lock:
            try:
                self._work.remove(call)
            except ValueError:
                return False
            return True

    def abandon(self, call: Call) -> None:
        """Stop counting a running call: its place is free for another although its body goes on."""
        with self._lock:
            place = self._places.get(call)
            if place is not None and not place.abandoned:
                place.abandoned = True
                self._vacate()

    def close(self) -> None:
        """Take no more calls; idle threads end now, busy ones when their body ends."""
        with self._lock:
            self._closed = True
            self._arrival.notify_all()

    def _has_room(self) -> bool:
        return bool(self._work) and self._busy + self._returning < self._limit

    def _staff(self, may_start: bool) -> None:
        """See that a thread comes for the work, if there is room. The lock is held."""
        while self._has_room() and isinstance(self._work[0], AsyncPlace):
            self._busy += 1
            self._work.popleft().begin()
        if not self._has_room():
            return
        if self._idle:
            self._arrival.notify()
        elif may_start:
            self._start_thread()
        elif not self._has_sentry:
            self._has_sentry = True
            threading.Thread(target=self._watch, name=f"{self._name}-sentry", daemon=True).start()

    def _start_thread(self) -> None:
        self._threads += 1
        try:
            threading.Thread(target=self._serve, name=f"{self._name}-{self._threads}", daemon=True).start()
        except RuntimeError:
            # The system gives no further thread; those that exist will come round to the work.
            self._threads -= 1
            if not self._threads:
                raise

    def _watch(self) -> None:
        """Add threads while there is work that no thread comes for; end when there is none."""
        pause = threading.Event()
        while True:
            before = self._finished
            pause.wait(_SENTRY_SECONDS)
            with self._lock:
                if not self._has_room():
                    self._has_sentry = False
                    return
                if not self._idle and self._finished - before < self._threads:
                    for _ in range(min(self._threads, len(self._work), self._limit - self._busy)):
                        self._start_thread()

    def _serve(self) -> None:
        place = _Place(self)
        with futures.holding(place):
            while (call := self._next(place)) is not None:
                call()
                del call

    def _next(self, place: _Place) -> Call | None:
        """Give up the place of the last call and take the next one; None when this thread should end."""
        with self._lock:
            self._settle(place)
            self._staff(may_start=False)
            while not self._has_room():
                if self._closed and not self._work:
                    self._threads -= 1
                    return None
                self._idle += 1
                woken = self._arrival.wait(_IDLE_SECONDS)
                self._idle -= 1
                self._staff(may_start=False)
                if not woken and not self._has_room():
                    self._threads -= 1
                    return None
            self._busy += 1
            call = place.call = self._work.popleft()
            assert not isinstance(call, AsyncPlace)
            self._places[call] = place
            return call

    def _settle(self, place: _Place) -> None:
        if place.call is None:
            return
        del self._places[place.call]
        place.call = None
        self._finished += 1
        if place.abandoned:
            place.abandoned = False
        else:
            self._vacate(staff=False)

    def _vacate(self, staff: bool = True) -> None:
        """Free one place for whoever wants to go on, else for new work. The lock is held."""
        self._busy -= 1
        if self._returning:
            self._vacancy.notify()
        elif self._returning_async:
            self._busy += 1
            self._returning_async.popleft().receive()
        elif staff:
            self._staff(may_start=True)


class _Place:
    """The place of the body that a thread runs; what its waits give back (`futures.Slot`)."""

    __slots__ = ("_pool", "abandoned", "call")

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool
        self.call: Call | None = None
        self.abandoned = False

    def give_back(self, is_done: Callable[[], bool]) -> None:
        pool = self._pool
        with pool._lock:
            if not self.abandoned:
                pool._vacate()

    def take_again(self) -> None:
        pool = self._pool
        with pool._lock:
            if self.abandoned:
                return
            pool._returning += 1
            try:
                while pool._busy >= pool._limit:
                    pool._vacancy.wait()
            finally:
                pool._returning -= 1
            pool._busy += 1


class AsyncPlace:
    """The place of an async body; what its awaits give back (`futures.AsyncSlot`)."""

    __slots__ = ("_flag", "_holds", "_pool", "_start")

    def __init__(self, pool: ThreadPool, start: Callable[[AsyncPlace], object]) -> None:
        self._pool = pool
        self._start = start
        self._holds = False
        self._flag: LoopFlag | None = None

    def begin(self) -> None:
        """Start the body; the pool's lock is held, so the body may not begin on this very call."""
        self._holds = True
        self._start(self)

    def receive(self) -> None:
        """Get the place again; the pool's lock is held."""
        self._holds = True
        if self._flag is not None:
            self._flag.set()

    def leave(self) -> None:
        """Free the place for good."""
        pool = self._pool
        with pool._lock:
            if self._holds:
                self._holds = False
                pool._vacate()
            elif self in pool._returning_async:
                pool._returning_async.remove(self)

    def give_back(self) -> None:
        pool = self._pool
        with pool._lock:
            if self._holds:
                self._holds = False
                pool._vacate()

    async def take_again(self) -> None:
        pool = self._pool
        with pool._lock:
            if self._holds:
                return
            if pool._busy < pool._limit:
                pool._busy += 1
                self._holds = True
                return
            if self not in pool._returning_async:
                self._flag = LoopFlag()
                pool._returning_async.append(self)
            flag = self._flag
        assert flag is not None
        await flag.wait()
