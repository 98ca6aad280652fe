"""The steward: the one thread of a process that says that it lives, looks once for others that don't, hears what is asked of its runs,
and tells those who wait for what somebody else writes.

Who runs something that may be asked for something registers a watch (`watch`), which costs a few microseconds. While there are watches,
the steward looks ten times a second whether the history holds a request without an answer, and only then reads them; without any watch it
sleeps from beat to beat. A watch for what comes and goes all the time, as calls outside of flows do, is let sleep while it is not needed,
and woken by what needs it. A request is told once to each watch of its run, on the steward's thread, which must not be kept: who needs time
answers later, from any thread. An answer is durable before who asked can see it.

Who waits for something that others write to the history says by what it is known (`expect`), and is told as often as that is looked at.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from prefect_core import history, settings
from prefect_core.control import losing
from prefect_core.control.watches import Expectation, Watch
from prefect_core.errors import HistoryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect_core.control.watches import Delivery
    from prefect_core.history import Recorder, StoreRecorder
    from prefect_core.history.control import Control

POLL_SECONDS = 0.1
FIRST_LOOK_SECONDS = 1.0
"""When a process that has just begun looks for dead ones: short ones needn't."""
_TURN_SECONDS = 5.0
_log = logging.getLogger("prefect_core.control")


class _Beat:
    """The lease of a recorder: when it is due to be renewed, and when others are to be looked for."""

    def __init__(self, now: float) -> None:
        self.due = now + settings.current().lease_beat_seconds
        self.first_look = now + FIRST_LOOK_SECONDS

    def next(self) -> float:
        return min(self.due, self.first_look)


class Steward:
    """The thread, there while there is something to be done, and what it does."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Know of nothing, and hold nothing: also in a child made by `fork`, which may have got all this in whatever condition."""
        self._lock = threading.Lock()
        self._beats: dict[StoreRecorder, _Beat] = {}
        self._watches: dict[Watch, None] = {}
        self._expectations: dict[Expectation, None] = {}
        self._next_look = 0.0
        self._is_urgent = False
        self._must_ask = False
        self._seen: WeakKeyDictionary[Control, int] = WeakKeyDictionary()
        """The number of changes when requests were last looked at."""
        self._met: WeakKeyDictionary[Control, int] = WeakKeyDictionary()
        """The same of expectations."""
        self._thread: threading.Thread | None = None
        self._bell = threading.Event()
        self._turn = threading.Lock()
        """Held by the thread while it works."""
        self._looking = threading.Lock()
        """Held by it while it reads what others wrote, which never takes long."""

    def begin(self, recorder: StoreRecorder) -> None:
        """Keep the lease of a recorder alive until that is closed, and end this process if it is lost."""
        recorder.on_lease_lost = losing.leave
        recorder.on_close = self._end
        with self._lock:
            self._beats[recorder] = _Beat(time.monotonic())
            self._rouse()

    def _end(self, recorder: StoreRecorder) -> None:
        recorder.on_lease_lost = None
        with self._lock:
            self._beats.pop(recorder, None)
            for watch in [watch for watch in self._watches if watch.stored == recorder.stored]:
                del self._watches[watch]
            for expectation in [one for one in self._expectations if one.control is recorder.stored().control()]:
                del self._expectations[expectation]
            self._bell.set()
        # It may be reading right now.
        self._await(self._turn)

    def _await(self, turn: threading.Lock) -> None:
        if self._thread is not threading.current_thread() and turn.acquire(timeout=_TURN_SECONDS):
            turn.release()

    def watch(
        self, recorder: Recorder, run: int, deliver: Callable[[Delivery], object], is_needed: Callable[[], bool]
    ) -> Watch:
        """Tell what is asked of a run that `recorder` records."""
        watch = Watch(self, recorder, run, deliver, is_needed)
        self.begin_watch(watch)
        return watch

    def begin_watch(self, watch: Watch) -> None:
        """Look for a watch, from now on or again."""
        with self._lock:
            self._begin_looking()
            self._watches[watch] = None
            watch.is_asleep = False

    def _begin_looking(self) -> None:
        """Look from now on; with the lock held, before somebody is added."""
        # It may have been asked for something, or have got it, before it could hear.
        self._must_ask = True
        if not self._watches and not self._expectations:
            self._next_look = time.monotonic() + POLL_SECONDS
            self._rouse()

    def expect(self, control: Control, is_met: Callable[[], bool], until: float | None) -> Expectation:
        """Tell when something is in a history."""
        expectation = Expectation(self, control, is_met, until)
        with self._lock:
            self._begin_looking()
            self._expectations[expectation] = None
            if until is not None and until < self._next_look:
                self._bell.set()
        return expectation

    def give_up(self, expectation: Expectation) -> None:
        """Tell of an expectation nothing more."""
        with self._lock:
            was_there = self._expectations.pop(expectation, self) is None
        if was_there:
            self._await(self._looking)

    def forget(self, watch: Watch) -> bool:
        """Tell a watch nothing more; False if that was so already."""
        with self._lock:
            return self._watches.pop(watch, self) is None

    def nudge(self) -> None:
        """Look for requests at once."""
        self._must_ask = self._is_urgent = True
        self._bell.set()

    def _rouse(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._go_on, name="prefect_core-steward", daemon=True)
            self._thread.start()
        else:
            self._bell.set()

    def _go_on(self) -> None:
        while True:
            with self._lock:
                if not self._beats and not self._watches and not self._expectations:
                    self._thread = None
                    return
                due = [beat.next() for beat in self._beats.values()]
                due += [one.until for one in self._expectations if one.until is not None]
                if self._watches or self._expectations:
                    due.append(self._next_look)
            self._bell.wait(max(0.0, min(due) - time.monotonic()))
            self._bell.clear()
            with self._turn:
                _quietly(self._keep_leases)
                self._end_late()
                if self._is_urgent or time.monotonic() >= self._next_look:
                    self._is_urgent = False
                    with self._looking:
                        _quietly(self._look)
                    self._next_look = time.monotonic() + POLL_SECONDS

    def _keep_leases(self) -> None:
        with self._lock:
            beats = list(self._beats.items())
        for recorder, beat in beats:
            now = time.monotonic()
            if now >= beat.due:
                beat.due = now + settings.current().lease_beat_seconds
                _quietly(partial(_renew, recorder))
            if now >= beat.first_look:
                beat.first_look = math.inf
                _quietly(partial(_reap, recorder))

    def _look(self) -> None:
        with self._lock:
            for watch in [one for one in self._watches if not one.is_needed()]:
                # In this order, and the other way round where it is woken.
                watch.is_asleep = True
                if watch.is_needed():
                    watch.is_asleep = False
                else:
                    del self._watches[watch]
            watches, expectations = list(self._watches), list(self._expectations)
            must_ask, self._must_ask = self._must_ask, False
        by_control: dict[Control, dict[int, list[Watch]]] = {}
        for watch in _asked(watches):
            by_control.setdefault(watch.stored().control(), {}).setdefault(watch.run, []).append(watch)
        for control, by_run in by_control.items():
            _quietly(partial(self._tell, control, by_run, must_ask))
        waiting: dict[Control, list[Expectation]] = {}
        for expectation in expectations:
            waiting.setdefault(expectation.control, []).append(expectation)
        for control, listed in waiting.items():
            _quietly(partial(self._meet, control, listed, must_ask))

    def _tell(self, control: Control, by_run: dict[int, list[Watch]], must_ask: bool) -> None:
        changes = control.changes()
        if self._seen.get(control) == changes and not must_ask:
            return
        # Noted only in the end, so that a look that failed is made again.
        self._seen.pop(control, None)
        for request in control.unanswered():
            for watch in by_run.get(request.run, ()):
                watch.tell(request, control)
        self._seen[control] = changes

    def _meet(self, control: Control, expectations: list[Expectation], must_ask: bool) -> None:
        # As above; and should this one fail.
        before = self._met.pop(control, None)
        changes = control.changes()
        if before != changes or must_ask:
            for expectation in expectations:
                if expectation.is_met():
                    self._fulfil(expectation)
        self._met[control] = changes

    def _end_late(self) -> None:
        now = time.monotonic()
        with self._lock:
            late = [one for one in self._expectations if one.until is not None and one.until <= now]
        for expectation in late:
            self._fulfil(expectation)

    def _fulfil(self, expectation: Expectation) -> None:
        with self._lock:
            is_awaited = self._expectations.pop(expectation, self) is None
        if is_awaited:
            expectation.fire()


def _asked(watches: list[Watch]) -> list[Watch]:
    """Return those in whose histories something is asked.

    What reads it is loaded only then: an import at the end of a program that Ctrl-C ends would spoil its exit code.
    """
    known: dict[Callable[[], bool], bool] = {}
    for watch in watches:
        if watch.has_unanswered not in known:
            try:
                known[watch.has_unanswered] = watch.has_unanswered()
            except HistoryError:
                # It is looked at again before long.
                known[watch.has_unanswered] = False
    return [watch for watch in watches if known[watch.has_unanswered]]


def _renew(recorder: StoreRecorder) -> None:
    length_us = round(settings.current().lease_seconds * 1_000_000)
    if not recorder.stored().control().renew_lease(recorder.process, length_us):
        # It finds out by itself when it has something to write, which may be long from now.
        recorder.lose_lease()


def _reap(recorder: StoreRecorder) -> None:
    from prefect_core.control.reaping import reap  # what a process that ends within a second never needs

    reap(recorder.stored().control())


def _quietly(work: Callable[[], object]) -> None:
    """Do something that is done again before long, should it fail."""
    try:
        work()
    except Exception:
        _log.debug("The steward could not do something.", exc_info=True)


_steward = Steward()


def begin(recorder: StoreRecorder) -> None:
    """Look after a recorder of this process until it is closed: its lease, and what is asked of its runs."""
    _steward.begin(recorder)


def _always() -> bool:
    return True


def watch(run: int, deliver: Callable[[Delivery], object], is_needed: Callable[[], bool] = _always) -> Watch:
    """Have `deliver` called with each request to a run of this process, until the watch is closed.

    `run` is the key of a flow run, or 2**32 times the number of this process for what is asked of the process. `deliver` is called on the
    steward's thread and must return quickly; if it raises, the request is answered with `{"error": ...}`. While `is_needed()` is False,
    which is asked under a lock, the watch may be let sleep, and hears nothing until it is woken.
    """
    return _steward.watch(history.current(), run, deliver, is_needed)


def expect(control: Control, is_met: Callable[[], bool], until: float | None = None) -> Expectation:
    """Return what fires when `is_met()` is true, asked whenever somebody has written to the history of `control`, or at the moment `until`.

    `until` is on the monotonic scale of `time`; None is never. `is_met` is called on the steward's thread and must return quickly; if it
    raises, it is asked again before long. To be closed by who made it, before the history is.
    """
    return _steward.expect(control, is_met, until)


def nudge() -> None:
    """Tell the watches of this process at once what was just asked, or sent, here."""
    _steward.nudge()


os.register_at_fork(after_in_child=_steward.begin_anew)
