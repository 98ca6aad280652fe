"""Cancelling what somebody asked this process to cancel: a flow run, one inside of it, or a task run.

    asked         The run is Cancelling, durably, and who asked is told. Nothing starts in it any more, and what has not begun is taken
                  back. The main thread, event loops and our own worker processes are told: bodies there end by an exception, at once if
                  they let it pass.
    interrupted   When the grace period is over, runners stop what they can stop; worker processes of our own are killed.
    left alone    What still runs then is on a thread that nothing can stop. Its place is given to others, its run is Cancelled and the
                  hooks are called, while the body runs on. A root flow that has the main thread takes the process with it.

Each cancellation has a thread of its own while it lasts. It ends no run that its lifecycle ends in time, and so with all that belongs to
that: what was submitted in it wound up, runners stopped, hooks called.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from prefect_core import history, logs, loops, settings
from prefect_core.control.losing import EXIT_CODE
from prefect_core.crash_points import crash_points_around
from prefect_core.engine import cancels, transitions
from prefect_core.engine.deadlines import CancelHere
from prefect_core.engine.flow_call import CHILDREN_STOPPED, FlowCall
from prefect_core.engine.task_call import TaskCall
from prefect_core.errors import HistoryError, describe
from prefect_core.history.requests import ENDED, OVER
from prefect_core.state_kinds import CANCELLED, CANCELLING, FINAL, PAUSED, PENDING, RUNNING
from prefect_core.states import State
from prefect_core.task_runners import TaskRunner

if TYPE_CHECKING:
    from prefect_core.control.watches import Delivery
    from prefect_core.engine.dispatcher import Dispatcher

CHILDREN_UNSTARTED = "The flow run was cancelled before this run could start."
ELSEWHERE = "It runs inside of a task in a worker process; cancel that task run, or the flow run."
_BEGINNING_SECONDS = 0.2
_FIRST_PAUSE_SECONDS = 0.001
_LONGEST_PAUSE_SECONDS = 0.05
_AFTER_STOP_SECONDS = 0.5
"""For bodies to end that were told, or whose tasks were stopped, at the end of the grace period."""
_WINDING_UP_SECONDS = 15.0

_ladders: dict[int, _Ladder] = {}
"""The cancellations under way, by the uid of the run."""
_lock = threading.Lock()


def deal_with(root: FlowCall | Dispatcher, delivery: Delivery) -> None:
    """Cancel the run that the delivery names, of those in a root flow run or outside of flows; or that flow run. Returns at once."""
    threading.Thread(target=_deal_with, args=(root, delivery), name="prefect_core-cancelling", daemon=True).start()


def _deal_with(root: FlowCall | Dispatcher, delivery: Delivery) -> None:
    try:
        _cancel(root, delivery)
    except Exception as error:
        run = root.run if isinstance(root, FlowCall) else None
        logs.engine_line(run, logs.ERROR, "A cancellation met an unexpected error; it may be asked for again", error)
        delivery.answer({"error": describe(error)})


def _cancel(root: FlowCall | Dispatcher, delivery: Delivery) -> None:
    found = _find_soon(root, delivery.detail)
    grace = delivery.detail.get("grace_seconds")
    by = time.monotonic() + (settings.current().cancel_grace_seconds if grace is None else grace)
    if found is None:
        # It may have ended just now, which is then to be seen.
        _flush()
        delivery.answer({"refused": ELSEWHERE})
        return
    ladder = _of_call(*found, by)
    uid = ladder.run.uid
    with _lock:
        under_way = _ladders.setdefault(uid, ladder)
        if under_way.run is not ladder.run:
            # That of an attempt which has ended: the run was run again in this process since.
            under_way = _ladders[uid] = ladder
    if under_way is not ladder:
        under_way.hasten(by)
        under_way.noted.wait()
        delivery.answer(under_way.answer)
        return
    cancels.begin(ladder)
    try:
        ladder.climb(delivery)
    finally:
        if ladder.run.state.type is not CANCELLING:
            # Else it met an error, and may be asked for again.
            cancels.end(ladder)
        ladder.noted.set()
        with _lock:
            if _ladders.get(uid) is ladder:
                del _ladders[uid]


def _find_soon(root: FlowCall | Dispatcher, detail: dict[str, Any]) -> tuple[Any, Dispatcher | None] | None:
    """Find the call that is asked about; one that was made just now is recorded a moment before it is under way."""
    until = time.monotonic() + _BEGINNING_SECONDS
    while True:
        if isinstance(root, FlowCall):
            found = _find(root, None, detail.get("run", root.run.key))
        else:
            found = _find_among(root, detail["run"])
        if found is not None or time.monotonic() >= until:
            return found
        time.sleep(_FIRST_PAUSE_SECONDS)


def _find(call: FlowCall, taker: Dispatcher | None, key: int) -> tuple[Any, Dispatcher | None] | None:
    """Find a call that is under way by the key of its run, and what it was submitted to."""
    if call.run.key == key or (call.tracking is not None and call.tracking.key == key):
        return call, taker or call.taker
    return _find_among(call.dispatcher, key) if call.dispatcher is not None else None


def _find_among(dispatcher: Dispatcher, key: int) -> tuple[Any, Dispatcher | None] | None:
    for inner in dispatcher.calls():
        if isinstance(inner, FlowCall):
            found = _find(inner, dispatcher, key)
            if found is not None:
                return found
        elif isinstance(inner, TaskCall) and inner.run.key == key:
            return inner, dispatcher
    return None


def _of_call(call: FlowCall | TaskCall, taker: Dispatcher | None, by: float) -> _Ladder:
    return _FlowLadder(call, taker, by) if isinstance(call, FlowCall) else _TaskLadder(call, taker, by)


class _Ladder(ABC):
    """One run on its way from being asked for to its end."""

    def __init__(self, call: Any, taker: Dispatcher | None, by: float) -> None:
        self.call = call
        self.run = call.run
        self.taker = taker
        self.by = by
        """When it must have ended, on the monotonic scale."""
        self.noted = threading.Event()
        """Set when it is durable that the run is Cancelling, or why it can't be."""
        self.answer: dict[str, Any] = {OVER: ENDED}
        self._strike = cancels.Strike(self.run)

    def hasten(self, by: float) -> None:
        """Have it end by another moment, if that is earlier."""
        self.by = min(self.by, by)

    def climb(self, delivery: Delivery) -> None:
        """Cancel the run, answering who asked once that is recorded; returns when it has ended, or nothing more can be done."""
        if self._take_back():
            self.answer = {"state": CANCELLED.value}
        elif self._note():
            self.answer = {"state": CANCELLING.value}
        self.noted.set()
        delivery.answer(self.answer)
        if self.run.state.type is not CANCELLING:
            return
        try:
            self._ask()
            if not self._has_ended_by(lambda: self.by):
                self._interrupt()
                self._strike.has_struck = False
                now = time.monotonic()
                if not self._has_ended_by(lambda: now + self._seconds_to_wind_up()):
                    self._leave_alone()
        finally:
            self._strike.withdraw()

    def _has_ended_by(self, moment: Any) -> bool:
        """Wait for the end of the run, telling the main thread again and again meanwhile; False when the time is up."""
        pause, wait = _FIRST_PAUSE_SECONDS, threading.Event().wait
        while self.run.state.type not in FINAL:
            left = moment() - time.monotonic()
            if left <= 0:
                return False
            self._strike.send()
            wait(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        return True

    def _note(self) -> bool:
        """Record that the run is being cancelled; False if it has ended."""
        try:
            self._enter(State(CANCELLING, message=f"Asked to end within {max(0.0, self.by - time.monotonic()):.3g} s."))
        except transitions.RunIsOver:
            return False
        _flush()
        return True

    def _cancel_scope(self) -> None:
        """Cancel a body that an event loop runs, or the delay before a retry."""
        payload = self.call.payload
        if payload is not None and payload.scope is not None:
            cancel, loop = payload.scope
            if loop is None:
                cancel()
                return
            # The loop may have ended, and the body with it.
            with suppress(RuntimeError):
                loops.call_on(loop, cancel)

    def _seconds_to_wind_up(self) -> float:
        """Return how long a lifecycle has to end its run after what can be stopped was stopped."""
        return _AFTER_STOP_SECONDS

    def _say_that_it_runs_on(self) -> None:
        logs.engine_line(
            self.run,
            logs.WARNING,
            f"{self.run.name} was cancelled, and its body runs on: nothing can stop code on a thread. Its place is given to others.",
        )

    @abstractmethod
    def _take_back(self) -> bool:
        """End a run that has not begun; False if it has."""

    @abstractmethod
    def _enter(self, state: State) -> None:
        """Move the run to a state. Raises `RunIsOver`."""

    @abstractmethod
    def _ask(self) -> None:
        """Tell bodies that they are to end, and take back what has not begun."""

    @abstractmethod
    def _interrupt(self) -> None:
        """Stop what can be stopped."""

    @abstractmethod
    def _leave_alone(self) -> None:
        """End a run whose body runs on."""


class _FlowLadder(_Ladder):
    call: FlowCall

    def hasten(self, by: float) -> None:
        super().hasten(by)
        for one in _tree(self.call):
            if one.dispatcher is not None:
                one.dispatcher.cancel_by = self.by

    def _enter(self, state: State) -> None:
        if self.call.dispatcher is not None:
            self.call.dispatcher.cancel_by = self.by
        pausing = self.call.context.pausing
        if pausing is not None:
            pausing.enter_unless_left(state)
        elif self.run.state.type is PAUSED:
            raise transitions.RunIsOver
        else:
            self.call.enter(state)

    def _take_back(self) -> bool:
        if self.run.state.type is not PENDING:
            return False
        if not self.call.end(transitions.cancelled(self.run)):
            return False
        self._close()
        return True

    def _ask(self) -> None:
        call = self.call
        for one in _tree(call):
            if one.dispatcher is not None:
                # First of all: a body that is told of the end of its children must find that it has been cancelled itself.
                one.dispatcher.cancel_by = self.by
                one.dispatcher.refuse_late_body(CancelHere(self.run))
        call.cancel_unstarted(CHILDREN_UNSTARTED)
        for one in _tree(call):
            if one.context.pausing is not None:
                # Nobody will resume it any more, and who waits for that on a thread is told by nothing else.
                one.context.pausing.abandon()
        if call.dispatcher is not None:
            call.dispatcher.hurry()
        for one in _tree(call):
            if one.context.pausing is not None:
                # A body may wait there, on a thread that nothing interrupts.
                one.context.pausing.abandon(CancelHere(self.run))
            for inner in one.dispatcher.calls() if one.dispatcher is not None else ():
                if isinstance(inner, TaskCall):
                    _ask_body(inner, self.by)
        self._cancel_scope()

    def _interrupt(self) -> None:
        if self.call.dispatcher is not None:
            self.call.dispatcher.let_go(CHILDREN_STOPPED, CANCELLED)

    def _seconds_to_wind_up(self) -> float:
        # Runners take a moment to stop, behind a body that has ended: its own, or that of a flow which its own waits for.
        stops = any(one.dispatcher is not None and one.dispatcher.is_stopping for one in _tree(self.call))
        return _AFTER_STOP_SECONDS if self.call.thread and not stops else _WINDING_UP_SECONDS

    def _leave_alone(self) -> None:
        call = self.call
        if not call.end(transitions.cancelled(self.run)):
            return
        if call.thread_slot is not None:
            call.thread_slot()
        is_lost = call.parent is None and call.thread == threading.main_thread().ident
        if not is_lost:
            self._say_that_it_runs_on()
        self._close()
        if call.dispatcher is not None:
            call.dispatcher.stop()
        if is_lost:
            _end_process(call)

    def _close(self) -> None:
        """See that the end is durable, then call the hooks and release who waits for it."""
        try:
            _flush()
        except HistoryError as error:
            logs.engine_line(None, logs.WARNING, f"The end of a flow run could not be recorded: {error}")
        self.call.call_hooks_outside(self.run.state)
        if self.taker is not None:
            self.taker.closed(self.call)


def _tree(call: FlowCall) -> list[FlowCall]:
    """Return a flow call and those in it, as far as they are under way in this process."""
    found = [call]
    for one in found:
        if one.dispatcher is not None:
            found += [inner for inner in one.dispatcher.calls() if isinstance(inner, FlowCall)]
    return found


def _end_process(call: FlowCall) -> None:
    logs.engine_line(
        call.run,
        logs.ERROR,
        f"{call.run.name} was cancelled and its body could not be stopped, so its process ends now.",
    )
    recorder = history.current()
    closing = threading.Thread(target=recorder.close, daemon=True)
    closing.start()
    closing.join(_AFTER_STOP_SECONDS)
    os._exit(EXIT_CODE)


def _ask_body(call: TaskCall, by: float) -> None:
    """Have a body in a worker process end, by force when the time is up, where the runner can ask it to."""
    payload, runner = call.payload, call.runner
    can_ask = runner is not None and type(runner).end_within is not TaskRunner.end_within
    if payload is not None and (payload.isolated is not None or can_ask):
        call.end_body(max(0.0, by - time.monotonic()))


class _TaskLadder(_Ladder):
    call: TaskCall

    def _enter(self, state: State) -> None:
        transitions.enter(self.run, state)

    def _take_back(self) -> bool:
        call, kind = self.call, self.run.state.type
        if not call.is_submitted or kind is RUNNING or kind in FINAL:
            return False
        if call.runner is not None and (call.runner.runs_on_submit or call.has_begun()):
            return False
        if not call.end(transitions.cancelled(self.run)):
            return False
        _flush()
        assert self.taker is not None
        self.taker.closed(call)
        return True

    def _ask(self) -> None:
        self.call.hurry()
        _ask_body(self.call, self.by)
        self._cancel_scope()

    def _interrupt(self) -> None:
        self.call.end_body(0)

    def _leave_alone(self) -> None:
        call, payload = self.call, self.call.payload
        if not call.end(transitions.cancelled(self.run)):
            return
        if payload is not None and call.runner is not None:
            call.runner.abandon(payload)
        self._say_that_it_runs_on()
        if call.is_submitted and self.taker is not None:
            self.taker.closed(call)


@crash_points_around("engine.flush")
def _flush() -> None:
    history.current().flush()
