"""Tasks on any `concurrent.futures.Executor` that somebody brings: of the standard library, loky, mpi4py, a cluster's own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from prefect_core.engine import remote, workplace
from prefect_core.engine.nested import run_attempt
from prefect_core.engine.stand_ins import StandIns
from prefect_core.engine.transport import Delivery, Transport
from prefect_core.errors import ConfigurationError, RunnerError, WorkerLost, describe
from prefect_core.payload import Payload, Receipt
from prefect_core.task_runners import Host, TaskRunner
from prefect_core.thread_pool import ThreadPool

_SETTLING_THREADS = 8


class ExecutorTaskRunner(TaskRunner):
    """Runs tasks on `executor`, which is borrowed: it must outlive the flow run, and is never shut down here.

    On a `ThreadPoolExecutor` bodies see the flow's own objects. On any other, functions, arguments and results travel as bytes, pickled
    here by value where they can't be imported, whatever the executor itself can pickle. What a body submits runs where that body runs.
    """

    def __init__(self, executor: Executor) -> None:
        if not isinstance(executor, Executor):
            raise TypeError(f"'executor' must be a concurrent.futures.Executor; got {executor!r}.")
        self.executor = executor
        self.shares_memory = self.tells_begun = isinstance(executor, ThreadPoolExecutor)
        self._place: _Threads | _Elsewhere | None = None

    @classmethod
    def from_argument(cls, argument: str) -> ExecutorTaskRunner:
        raise ConfigurationError(
            f"ExecutorTaskRunner needs an executor, which {argument!r} can't name; make it in code: ExecutorTaskRunner(my_executor)."
        )

    def options(self) -> dict[str, Any]:
        return {"executor": self.executor}

    def duplicate(self) -> ExecutorTaskRunner:
        return type(self)(self.executor)

    def start(self, host: Host) -> None:
        self._place = _Threads(self.executor) if self.shares_memory else _Elsewhere(self.executor)

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        if self._place is None:
            raise RunnerError("The task runner must be started before submitting work.")
        self._place.submit(payload, done)

    def cancel(self, payload: Payload) -> bool:
        return self._place is not None and payload.handle is not None and self._place.cancel(payload)

    def abandon(self, payload: Payload) -> None:
        if isinstance(self._place, _Threads):
            self._place.abandon(payload)

    def stop(self) -> None:
        if self._place is not None:
            self._place.stop()

    def __reduce__(self) -> tuple[Any, ...]:
        # A task that names this runner may be mentioned by a function that travels to a worker, where what it submits stays.
        return _unavailable, ()


class _Unavailable(Executor):
    """Stands for an executor that stayed in its process."""


def _unavailable() -> ExecutorTaskRunner:
    return ExecutorTaskRunner(_Unavailable())


class _Threads:
    """A `ThreadPoolExecutor`: its threads come for the oldest body that nobody runs yet, and stand-ins do so while bodies wait."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._stand_ins = StandIns("prefect-core-stand-in")

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        call = payload.handle = partial(_run, payload, done, self._stand_ins)
        self._stand_ins.add(call)
        try:
            self._executor.submit(self._stand_ins.run_next)
        except RuntimeError as error:
            if self._stand_ins.withdraw(call):
                done(_lost(WorkerLost(_refused(self._executor, error))))

    def cancel(self, payload: Payload) -> bool:
        return self._stand_ins.withdraw(payload.handle)

    def abandon(self, payload: Payload) -> None:
        # The thread stays with its late body; a stand-in does its work meanwhile.
        if payload.over is not None:
            self._stand_ins.wait_begins(payload, payload.over.done)

    def stop(self) -> None:
        self._stand_ins.close()


def _run(payload: Payload, done: Callable[[Receipt], None], stand_ins: StandIns) -> None:
    receipt = run_attempt(payload, stand_ins)
    stand_ins.wait_ends(payload)
    receipt.worker = receipt.worker or remote.worker_name()
    done(receipt)


class _Elsewhere:
    """Any other executor: bodies travel as bytes.

    Receipts are dealt with on threads of our own: an executor calls back in the midst of its bookkeeping, under locks of its own, and
    the engine goes on to submit from there.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._transport = Transport()
        self._settling = ThreadPool(_SETTLING_THREADS, "prefect-core-receipts")

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        delivery = self._transport.take(payload)
        try:
            future = self._executor.submit(workplace.work, delivery.parcel)
        except (BrokenExecutor, RuntimeError) as error:
            done(delivery.lost(_refused(self._executor, error), "", began=False))
            return
        payload.handle = future
        future.add_done_callback(lambda future: self._settle_soon(partial(self._settle, future, delivery, done)))

    def _settle_soon(self, settle: Callable[[], Callable[[], object]]) -> None:
        try:
            self._settling.submit(settle)
        except RuntimeError:
            # The flow run is over, and has given this attempt up.
            return

    def _settle(
        self, future: Future[bytes], delivery: Delivery, done: Callable[[Receipt], None]
    ) -> Callable[[], object]:
        if delivery.payload.handle is None:
            # It was taken back.
            return bool
        try:
            receipt = delivery.receipt(future.result())
        except CancelledError:
            reason = f"The executor ({type(self._executor).__name__}) cancelled this task before it ran."
            receipt = delivery.lost(reason, "", began=False)
        except BaseException as error:
            reason = f"The executor ({type(self._executor).__name__}) lost this task: {_first_line(error)}"
            receipt = delivery.lost(reason, "", began=True)
        return partial(done, receipt)

    def cancel(self, payload: Payload) -> bool:
        future, payload.handle = payload.handle, None
        if future.cancel():
            return True
        payload.handle = future
        return False

    def stop(self) -> None:
        self._settling.close()


def _refused(executor: Executor, error: Exception) -> str:
    return f"The executor ({type(executor).__name__}) takes no more tasks: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return describe(error).partition("\n")[0]


def _lost(error: WorkerLost) -> Receipt:
    receipt = Receipt.of_unbegun(error)
    receipt.lost = True
    return receipt
