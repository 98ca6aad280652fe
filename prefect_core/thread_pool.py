"""Daemon threads on demand, for bodies that may wait on futures without blocking others.

At most `limit` bodies run at once, one to a thread. A body that waits on our futures gives its place back (`futures.Slot`): another
body may then start, on a further thread if need be, and the waiting one goes on only when a place is free again. So nested waits end
at any depth, with one place too.

The first threads start with the first calls. Above `_PROMPT` threads a sentry looks every few milliseconds and adds some only while
bodies wait: thousands of tiny calls are done sooner by a few threads than by hundreds.

A call gives what is to be done once its body is over; the first call submitted meanwhile by the same thread is what that thread does
next, without going through the queue: the next link of a chain runs where the last one ran, and wakes nobody.

The hot path takes no lock: calls go through a `SimpleQueue`, and whether one was taken back is settled by who pops it from a dict.
The lock guards the number of threads and of places given back. The threads are daemons: a body that can't be interrupted never keeps
the process from ending.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from _queue import Empty, SimpleQueue
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from prefect_core import waiting

_IDLE_SECONDS = 10.0
_SENTRY_SECONDS = 0.02
_QUIET_LOOKS = 50
_BUSY_SHARE = 0.8
_PROMPT = min(32, (os.cpu_count() or 1) + 4)

Call = Callable[[], Callable[[], object]]
"""Runs a body and returns what to do after it; neither may raise."""


_RANKED: Any = object()
"""Stands in the queue for a call with a priority of its own."""


class ThreadPool:
    """Runs calls by priority, and in order of arrival, on at most `limit` threads at once."""

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._prompt = min(limit, _PROMPT)
        self._name = name
        self._lock = threading.Lock()
        self._work: SimpleQueue[Call | None] = SimpleQueue()
        self._queued: dict[Call, None] = {}
        self._ranked: list[tuple[int, int, Call]] = []
        self._passed_over: deque[Call] = deque()
        """Calls that came out of the queue while a more urgent one was there; each has a `_RANKED` in the queue instead."""
        self._arrivals = itertools.count()
        self._places: set[Place] = set()
        self._returning: deque[Callable[[], object]] = deque()
        self._threads = 0
        self._given_back = 0  # places whose bodies wait, or were abandoned
        self._finished = 0
        self._is_watched = False
        self._closed = False

    def submit(self, call: Call, priority: int = 0) -> None:
        """Run `call` on a thread of the pool, before those of lower priority. Raises `RuntimeError` after `close`."""
        if self._closed:
            raise RuntimeError("The thread pool is closed.")
        self._queued[call] = None
        if priority:
            with self._lock:
                heappush(self._ranked, (-priority, next(self._arrivals), call))
            self._work.put(_RANKED)
        else:
            place = waiting.current_slot()
            if type(place) is Place and not self._ranked and place.takes_next(self, call):
                return
            self._work.put(call)
        if self._threads - self._given_back < self._prompt:
            with self._lock:
                self._staff()
        elif not self._is_watched and self._prompt < self._limit:
            self._watch_soon()

    def withdraw(self, call: Call) -> bool:
        """Take back a call that has not begun; False if it has."""
        return self._queued.pop(call, call) is None

    def abandon(self, call: Call) -> None:
        """Stop counting a running call: its place is free for another although its body goes on."""
        with self._lock:
            for place in self._places:
                if place.call is call and not place.is_given_back:
                    place.is_abandoned = place.is_given_back = True
                    self._free_place()

    def is_behind_loop(self, call: Call) -> bool:
        """Tell whether a call can't begin before an event loop goes on, whose bodies have all the places."""
        with self._lock:
            return call in self._queued and self._limit <= sum(
                place.is_lent_to_loop and not place.is_given_back for place in self._places
            )

    def close(self) -> None:
        """Take no more calls; idle threads end now, busy ones when their body ends."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._work.put(None)

    def _free_place(self) -> None:
        """Let a body that wants its own place again have one that has become free, or else a call. The lock is held."""
        if self._returning:
            self._returning.popleft()()
        else:
            self._given_back += 1
            self._staff()

    def _staff(self) -> None:
        """Start a thread if there is work and a place without one. The lock is held."""
        if self._queued and self._threads - self._given_back < self._prompt:
            self._start_thread()

    def _start_thread(self) -> None:
        self._threads += 1
        try:
            threading.Thread(target=self._serve, name=f"{self._name}-{self._threads}", daemon=True).start()
        except RuntimeError:
            # The system gives no further thread; those that exist will come round to the work.
            self._threads -= 1
            if not self._threads:
                raise

    def _watch_soon(self) -> None:
        with self._lock:
            if not self._is_watched:
                self._is_watched = True
                threading.Thread(target=self._watch, name=f"{self._name}-sentry", daemon=True).start()

    def _watch(self) -> None:
        """Add threads while there is work that no thread comes for; end when there has been none for a while."""
        pause = threading.Event()
        quiet = 0
        while quiet < _QUIET_LOOKS:
            before, cpu, wall = self._finished, time.process_time(), time.perf_counter()
            pause.wait(_SENTRY_SECONDS)
            quiet = 0 if self._queued else quiet + 1
            wall = time.perf_counter() - wall
            # Where the interpreter is busy already, further threads would only get in each other's way.
            is_busy = time.process_time() - cpu > _BUSY_SHARE * wall
            if self._queued and (not is_busy or self._finished == before):
                self._grow()
        self._is_watched = False
        if self._queued and not self._closed:
            self._watch_soon()

    def _grow(self) -> None:
        with self._lock:
            active = self._threads - self._given_back
            for _ in range(min(active, len(self._queued), self._limit - active)):
                self._start_thread()

    def _serve(self) -> None:
        place = Place(self)
        with self._lock:
            self._places.add(place)
        with waiting.holding(place):
            self._serve_in(place)
        with self._lock:
            self._places.discard(place)

    def _serve_in(self, place: Place) -> None:
        get, queued = self._work.get, self._queued
        while True:
            call, place.next = place.next, None
            if call is None:
                try:
                    call = get(True, _IDLE_SECONDS)
                except Empty:
                    if self._may_end():
                        return
                    continue
                if call is None:
                    if self._hand_over(place):
                        return
                    continue
            if call is _RANKED or self._ranked:
                call = self._by_rank(call)
            if call is None or queued.pop(call, call) is not None:
                continue  # it was withdrawn, or its turn comes later
            place.call = call
            after = call()
            place.call = call = None
            place.is_after_body = True
            after()
            place.is_after_body = False
            del after
            self._finished += 1
            if (self._returning or place.is_given_back) and self._hand_over(place):
                return

    def _by_rank(self, call: Call) -> Call | None:
        """Return the call whose turn it is in the place of one that came out of the queue; None if it has to wait."""
        with self._lock:
            if self._ranked and self._ranked[0][0] < 0:
                if call is not _RANKED:
                    self._passed_over.append(call)
                return heappop(self._ranked)[2]
            if call is not _RANKED:
                return call
            if self._passed_over:
                return self._passed_over.popleft()
            if not self._ranked:
                return None
            if self._work.qsize() >= len(self._ranked):
                # There are others, which go first: all but this one's have their own stand-in still in the queue.
                self._work.put(_RANKED)
                return None
            return heappop(self._ranked)[2]

    def _may_end(self) -> bool:
        with self._lock:
            self._threads -= 1
            if self._queued:
                # It came between the time-out and the lock.
                self._threads += 1
                return False
            return True

    def _hand_over(self, place: Place) -> bool:
        """Pass this thread's place to a body that wants its own again; True if the thread should end."""
        place.put_back_next()
        with self._lock:
            if place.is_given_back:
                # The place went to another long ago: its body was late, or was cancelled while it waited.
                self._given_back -= 1
            elif self._returning:
                self._given_back -= 1
                self._returning.popleft()()
            elif not self._closed:
                return False
            self._threads -= 1
            return True


class Place:
    """The place of the body that a thread runs; what its waits give back (`futures.Slot`)."""

    __slots__ = ("_pool", "call", "is_abandoned", "is_after_body", "is_given_back", "is_lent_to_loop", "next")

    def __init__(self, pool: ThreadPool) -> None:
        self._pool = pool
        self.call: Call | None = None
        self.next: Call | None = None
        self.is_after_body = False
        self.is_given_back = False
        self.is_abandoned = False
        self.is_lent_to_loop = False  # its body runs on an event loop, and this thread only waits for it

    def takes_next(self, pool: ThreadPool, call: Call) -> bool:
        """Keep a call that was submitted between two bodies for this thread itself, if it has none yet."""
        if pool is not self._pool or not self.is_after_body or self.next is not None or self.is_abandoned:
            return False
        self.next = call
        return True

    def put_back_next(self) -> None:
        """Leave the call that was kept to the other threads."""
        if self.next is not None:
            call, self.next = self.next, None
            self._pool._work.put(call)

    def give_back(self, is_done: Callable[[], bool] | None = None) -> None:
        """Let another body run meanwhile."""
        self.put_back_next()
        pool = self._pool
        with pool._lock:
            if not self.is_given_back:
                self.is_given_back = True
                pool._free_place()

    def ask_back(self, granted: Callable[[], object]) -> bool:
        """Take the place again at once and return True, or have `granted` called, under a lock, when it is free."""
        pool = self._pool
        with pool._lock:
            if not self.is_given_back or self.is_abandoned:
                return True
            self.is_given_back = False
            if pool._threads - pool._given_back < pool._limit:
                pool._given_back -= 1
                return True
            pool._returning.append(granted)
            # Wakes an idle thread, so that it passes its place on.
            pool._work.put(None)
            return False

    def ask_no_more(self, granted: Callable[[], object]) -> None:
        """Do without the place, unless it has just been granted."""
        with self._pool._lock:
            if granted in self._pool._returning:
                self._pool._returning.remove(granted)
                self.is_given_back = True

    def take_again(self) -> None:
        """Block until the place is free."""
        latch = threading.Lock()
        latch.acquire()
        if not self.ask_back(latch.release):
            latch.acquire()
