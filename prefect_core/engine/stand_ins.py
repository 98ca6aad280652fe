"""Threads that run what waiting bodies have submitted, where nobody else will.

In a worker process, or on an executor that somebody brought, a body holds its place for as long as it runs, and what it submits would
wait for a place behind it. So those calls stay here. While a body waits on futures, a further thread, its *stand-in*, runs them, one
after the other; what they submit and wait for is run in the same way. There are never more stand-ins at work than bodies that wait,
and a stand-in stops when what its body waits for is there: as many bodies run as there are places, and no wait is for ever, at any depth.

A body does not run others on its own stack: two of them could wait for each other, the one above for the one below.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from prefect_core import waiting

_IDLE_SECONDS = 1.0

Call = Callable[[], object]


class StandIns:
    """Calls that nobody runs yet, and the bodies that wait meanwhile."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._arrival = threading.Condition()
        self._calls: deque[Call] = deque()
        self._waiting: dict[object, Callable[[], bool]] = {}
        self._at_work = 0
        self._idle = 0
        self._closed = False

    def add(self, call: Call) -> None:
        """Have `call` run by a stand-in, or by whoever calls `run_next` first; it must not raise."""
        with self._arrival:
            self._calls.append(call)
            self._staff()

    def withdraw(self, call: Call) -> bool:
        """Take back a call that has not begun; False if it has."""
        with self._arrival:
            try:
                self._calls.remove(call)
            except ValueError:
                return False
            return True

    def run_next(self) -> None:
        """Run the oldest call on this thread, if there is one left; while it waits, a stand-in may take this thread's part."""
        with self._arrival:
            call = self._calls.popleft() if self._calls else None
        if call is not None:
            with waiting.holding(Part(self)):
                call()

    def close(self) -> None:
        """Let idle threads end; what is still to be run is let go."""
        with self._arrival:
            self._closed = True
            self._calls.clear()
            self._arrival.notify_all()

    def wait_begins(self, part: object, is_done: Callable[[], bool]) -> None:
        """Take note that a body waits until `is_done()`."""
        with self._arrival:
            self._waiting[part] = is_done
            self._staff()

    def wait_ends(self, part: object) -> None:
        """Take note that it waits no longer."""
        # Not under the lock: a deadline may have interrupted this very thread while it held it.
        self._waiting.pop(part, None)

    def _is_wanted(self) -> bool:
        """Tell whether there is a call, and a waiting body without a stand-in. The lock is held."""
        waiting = sum(not is_done() for is_done in list(self._waiting.values()))
        return bool(self._calls) and self._at_work < waiting

    def _staff(self) -> None:
        if self._is_wanted():
            if self._idle:
                self._arrival.notify()
            else:
                self._at_work += 1
                threading.Thread(target=self._serve, name=self._name, daemon=True).start()

    def _serve(self) -> None:
        with waiting.holding(Part(self)):
            while (call := self._next()) is not None:
                call()
                del call

    def _next(self) -> Call | None:
        """Return the next call for a stand-in that was at work; None if it should end."""
        with self._arrival:
            self._at_work -= 1
            while not self._is_wanted():
                self._idle += 1
                woken = not self._closed and self._arrival.wait(_IDLE_SECONDS)
                self._idle -= 1
                if not woken and not self._is_wanted():
                    return None
            self._at_work += 1
            call = self._calls.popleft()
            self._staff()
            return call


class Part:
    """What a body on a thread gives back while it waits (`waiting.Slot`)."""

    __slots__ = ("_stand_ins",)

    def __init__(self, stand_ins: StandIns) -> None:
        self._stand_ins = stand_ins

    def give_back(self, is_done: Callable[[], bool]) -> None:
        self._stand_ins.wait_begins(self, is_done)

    def take_again(self) -> None:
        self._stand_ins.wait_ends(self)


class AsyncPart:
    """What an async body gives back while it awaits (`waiting.AsyncSlot`)."""

    __slots__ = ("_stand_ins",)

    def __init__(self, stand_ins: StandIns) -> None:
        self._stand_ins = stand_ins

    def give_back(self) -> None:
        self._stand_ins.wait_begins(self, _not_yet)

    async def take_again(self) -> None:
        self._stand_ins.wait_ends(self)


def _not_yet() -> bool:
    return False
