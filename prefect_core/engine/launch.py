"""The driver of submitted task runs: performs the steps of a lifecycle without a thread that waits.

Whatever a step waits for calls back when it is there, and the lifecycle goes on from that thread, over the trampoline. Attempts go to
the runner; delays to the timer thread; what may block, hooks above all, to threads beside.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from prefect_core import clock, endless_waits, logs
from prefect_core.engine import deadlines, isolation, late_bodies, portal, timers, trampoline
from prefect_core.engine.gates import Held, about_to_begin
from prefect_core.engine.steps import Block, Call, Life, Sleep, Wait
from prefect_core.errors import FlowPauseTimeout, Pause, describe
from prefect_core.payload import Payload, Receipt
from prefect_core.state_kinds import CRASHED
from prefect_core.states import State
from prefect_core.thread_pool import ThreadPool
from prefect_core.waiting import Signal, block_until_done, when_done

if TYPE_CHECKING:
    from prefect_core.engine.dispatcher import Dispatcher
    from prefect_core.engine.task_call import TaskCall

_aside = ThreadPool(limit=64, name="prefect-core-aside")


def _renew_aside() -> None:
    global _aside
    _aside = ThreadPool(limit=64, name="prefect-core-aside")


os.register_at_fork(after_in_child=_renew_aside)


class Flight:
    """One lifecycle under way."""

    __slots__ = ("_begun_us", "_call", "_dispatcher", "_life", "_lock", "_payload", "_stays_here", "_timer")

    def __init__(self, life: Life[State] | None, call: TaskCall, dispatcher: Dispatcher) -> None:
        self._life = life
        self._call = call
        self._dispatcher = dispatcher
        self._payload: Payload | None = None
        self._timer: timers.Timer | None = None
        # A runner that runs bodies before `submit` returns wants the rest of the run, delays and hooks too, to have happened by then.
        self._stays_here = call.task.task_runner is None and dispatcher.runner.runs_on_submit

    def resume(self, given: Any = None) -> None:
        """Go on with what the last step gave."""
        trampoline.push(partial(self._advance, given))

    def _resume_after(self, _: Signal) -> None:
        self.resume()

    def _resume_elsewhere(self, _: Signal) -> None:
        _aside.submit(lambda: self.resume)

    def _advance(self, given: Any, error: BaseException | None = None) -> None:
        try:
            if self._go_on(given, error):
                self._dispatcher.closed(self._call)
        except Exception as mistake:
            # A mistake of the engine's own; the run must not stay open for it.
            logs.engine_line(self._call.run, logs.ERROR, "The engine failed to carry on with this run", mistake)
            self._call.end(
                State(CRASHED, None, f"Execution was interrupted by an unexpected exception: {describe(mistake)}")
            )
            self._dispatcher.closed(self._call)
        except BaseException:
            # What struck a run that had ended, on its way to who is behind this thread.
            self._dispatcher.closed(self._call)
            raise

    def _go_on(self, given: Any, error: BaseException | None) -> bool:
        """Take the lifecycle to its next step, and begin with that; True if it is over."""
        life = self._life
        assert life is not None
        try:
            step = life.send(given) if error is None else life.throw(error)
        except StopIteration:
            return True
        self._begin(step)
        return False

    def _begin(self, step: Any) -> None:
        if self._stays_here and not isinstance(step, Call):
            self._perform_here(step)
            return
        match step:
            case Call(payload=payload):
                self._hand_over(payload)
            case Wait(signals=signals):
                if len(signals) == 1:
                    # The common link of a chain needs no counting.
                    signal = next(iter(signals))
                    signal.add_done_callback(self._resume_elsewhere if signal.is_hurried else self._resume_after)
                else:
                    when_done(signals, self.resume)
            case Sleep(seconds=seconds):
                timers.after(seconds, self.resume)
            case Block(work=work, is_async=is_async):
                _aside.submit(partial(self._block, work, is_async))

    def _perform_here(self, step: Any) -> None:
        match step:
            case Wait(signals=signals):
                try:
                    block_until_done(signals)
                except BaseException as error:
                    trampoline.push(partial(self._advance, None, error))
                else:
                    self.resume()
            case Sleep(seconds=seconds):
                try:
                    clock.current().sleep(seconds)
                except BaseException as error:
                    trampoline.push(partial(self._advance, None, error))
                else:
                    self.resume()
            case Block(work=work, is_async=is_async):
                self._block(work, is_async)()

    def _block(self, work: Callable[[], Any], is_async: bool) -> Callable[[], None]:
        try:
            return partial(self.resume, portal.run(work) if is_async else work())
        except BaseException as error:
            return partial(trampoline.push, partial(self._advance, None, error))

    def _hand_over(self, payload: Payload) -> None:
        done = self.resume
        try:
            call = self._call
            runner = call.runner = self._dispatcher.runner_for(call.task)
            if payload.isolated is not None:
                isolation.check_runner(payload, runner)
            elif payload.timeout_seconds and not payload.is_async and runner.shares_memory:
                done = self._time(payload)
            if runner.shares_memory and payload.isolated is None:
                # The body itself looks at the gate.
                runner.submit(payload, done)
            else:
                call.give_back = done
                self._send(payload, done)
        except Exception as error:
            done(Receipt.of_unbegun(error))
        else:
            if self._call.is_hurried:
                # It could not be told while it was on its way.
                self._call.hurry()
            if endless_waits.blocked_loops:
                endless_waits.look_again(runner.loop_needed(payload))

    def _send(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        """Hand a payload to a runner whose bodies are elsewhere, unless the flow run was paused meanwhile."""
        call, around = self._call, self._call.context.flow_context
        runner, bundle = call.runner, call.bundle
        is_alone = (
            payload.attempt > 1 or payload.isolated or payload.resources or call.slots is not None or call.has_natives
        )
        try:
            if bundle is not None and runner.takes_chunks and not is_alone:
                # What hands over what it has looks at the gate.
                bundle.add(runner, payload, done)
            else:
                with about_to_begin(around):
                    if not runner.takes_chunks or is_alone:
                        runner.submit(payload, done)
                    elif not self._dispatcher.gathering.hand_over(
                        call, runner, payload, done, self._dispatcher.backlog
                    ):
                        return
            call.tell_handed_over()
        except (Held, Pause, FlowPauseTimeout):
            done(Receipt(error=Held()))

    def _time(self, payload: Payload) -> Any:
        """Watch the payload's deadline from outside, once its body begins on a thread that nothing can interrupt."""
        self._payload = payload
        self._lock = threading.Lock()
        payload.over = Signal()
        begin = payload.started
        assert begin is not None
        assert payload.timeout_seconds is not None
        timeout_seconds = payload.timeout_seconds

        def started(moment_us: int) -> None:
            begin(moment_us)
            self._begun_us = moment_us
            if threading.current_thread() is not threading.main_thread():
                self._timer = timers.after(timeout_seconds, self._on_deadline)

        payload.started = started
        return partial(self._on_receipt, payload)

    def _on_receipt(self, payload: Payload, receipt: Receipt) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._take(payload):
            self.resume(receipt)
        assert payload.over is not None
        payload.over.fire()

    def _on_deadline(self) -> None:
        payload = self._payload
        if payload is not None and self._take(payload):
            self._call.runner.abandon(payload)
            late_bodies.look_at(payload)
            self.resume(deadlines.late_receipt(payload, self._begun_us or clock.now_us()))

    def _take(self, payload: Payload) -> bool:
        """Tell the first of body and deadline that it is the first."""
        with self._lock:
            is_first = self._payload is payload
            if is_first:
                self._payload = None
        return is_first
