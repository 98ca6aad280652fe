"""Bodies in worker processes that stand on a place of another runner: `@task(isolation="process")`.

A runner that shares our memory knows nothing of it. It gives the attempt a place as any other, and what stands there is a thread (or an
await) that waits for a worker process: so the runner's bounds and order hold, and a direct call needs no runner at all. The processes are
those of the process runner, one for each such attempt that is under way at once, kept warm until the flow run ends. Deadlines, too, are
its: the worker interrupts the body in time, and one that does not heed that is killed with its process and all that it started.

What interrupts the wait ends the body at once, but for a cancellation on a thread: that is told to the body, which has the rest of the
grace period to clean up, and the thread goes on waiting for it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from prefect_core import clock, loops, waiting
from prefect_core.context import TaskRunContext
from prefect_core.engine import cancels
from prefect_core.engine.deadlines import CancelHere
from prefect_core.engine.gates import about_to_begin
from prefect_core.errors import RunnerError
from prefect_core.payload import Payload, Receipt
from prefect_core.waiting import Signal, block_until_done

if TYPE_CHECKING:
    from prefect_core.task_runners import TaskRunner


def isolate(payload: Payload) -> None:
    """Have the body of a payload run in a worker process."""
    payload.isolated = InProcess(is_async=payload.is_async)
    # On this side it is a call that blocks, whatever it is there.
    payload.is_async = False


def check_runner(payload: Payload, runner: TaskRunner) -> None:
    """Raise `RunnerError` if a runner can't keep the promise of an isolated body."""
    if not runner.shares_memory and not runner.can_kill:
        raise RunnerError(
            f'{runner.name} runs bodies where it can\'t end one for certain, so it takes no task with isolation="process". '
            'Give the task a runner that can, such as @task(task_runner="processes:2", isolation="process"), or no isolation.'
        )


class InProcess:
    """One attempt in a worker process (`payload.Isolated`)."""

    __slots__ = ("_ended", "_inner", "_is_stopped", "_lock", "_receipt", "_runner", "is_async")

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self._lock = threading.Lock()
        self._ended = Signal()
        self._receipt: Receipt | None = None
        self._runner: TaskRunner | None = None
        self._inner: Payload | None = None
        self._is_stopped = False

    def run(self, payload: Payload) -> Receipt:
        """Block this thread until the attempt has ended. Never raises."""
        started_us = clock.now_us()
        try:
            self._begin(payload)
            # The place stays taken: the body has it.
            with waiting.holding(None):
                self._block_until_ended(payload)
        except BaseException as error:
            return self._broken_off(error, started_us)
        return self._outcome()

    async def arun(self, payload: Payload) -> Receipt:
        """Do the same on an event loop, which goes on meanwhile."""
        started_us = clock.now_us()
        flag = loops.LoopFlag()
        try:
            self._begin(payload)
            self._ended.add_done_callback(flag.set)
            await flag.wait()
        except BaseException as error:
            return self._broken_off(error, started_us)
        return self._outcome()

    def _block_until_ended(self, payload: Payload) -> None:
        try:
            block_until_done([self._ended])
        except CancelHere:
            # It is raised a second time if the grace period is over and the body is not.
            if self._is_asked_to_end(payload):
                block_until_done([self._ended])
            raise

    def _is_asked_to_end(self, payload: Payload) -> bool:
        """See that the body is told, once, if it is being cancelled; False if something else ends it."""
        left = cancels.seconds_left(payload.context)
        if left is None:
            return False
        if not self._is_stopped:
            self.end(left)
        return True

    def end(self, within_seconds: float) -> None:
        """End it, after some seconds by force; from any thread."""
        with self._lock:
            self._is_stopped = True
            runner, inner = self._runner, self._inner
        if runner is None or inner is None:
            return
        if runner.cancel(inner):
            self._done(_not_begun())
        else:
            runner.end_within(inner, within_seconds)

    def _begin(self, payload: Payload) -> None:
        around = payload.context
        assert isinstance(around, TaskRunContext)
        runner: TaskRunner = around.dispatcher.isolating()
        inner = _twin(payload)
        with about_to_begin(around.flow_context), self._lock:
            is_stopped = self._is_stopped
            if not is_stopped:
                # Handed over under the lock, so that whoever ends it finds it there.
                runner.submit(inner, self._done)
                self._runner, self._inner = runner, inner
        if is_stopped:
            self._done(_not_begun())

    def _done(self, receipt: Receipt) -> None:
        if self._receipt is None:
            self._receipt = receipt
        self._ended.fire()

    def _outcome(self) -> Receipt:
        receipt = self._receipt
        assert receipt is not None
        # An attempt is known to its end only; what it is made of would keep the garbage collector busy.
        self._runner = self._inner = None
        return receipt

    def _broken_off(self, error: BaseException, started_us: int) -> Receipt:
        """Return the receipt of an attempt whose wait was interrupted, or which could not be handed over."""
        began = self._inner is not None
        self.end(0)
        receipt = Receipt(error=error) if began or not isinstance(error, Exception) else Receipt.of_unbegun(error)
        if began:
            receipt.started_us, receipt.ended_us = started_us, clock.now_us()
        return receipt


def _twin(payload: Payload) -> Payload:
    """Return a payload for the second runner, whose handle is its own. It has no resources and no priority: it has its place."""
    twin = Payload(payload.function, payload.args, payload.kwargs, payload.context, payload.is_async)
    twin.timeout_seconds, twin.variables = payload.timeout_seconds, payload.variables
    twin.started, twin.is_again = payload.started, payload.is_again
    return twin


def _not_begun() -> Receipt:
    return Receipt.of_unbegun(RunnerError("The attempt was ended before its body began."))
