"""What a body in a worker submits: it runs in that worker, by stand-ins, and before the attempt is over.

Async bodies run on the worker's event loop at once. Tasks that chose a runner of their own get it where it shares the worker's memory; a
pool of processes inside each process of a pool is nobody's wish.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from prefect_core import logs, waiting
from prefect_core.engine import portal, remote
from prefect_core.engine.collect import WorkerRecorder
from prefect_core.engine.dispatcher import Dispatcher
from prefect_core.engine.stand_ins import AsyncPart, Part, StandIns
from prefect_core.engine.tally import Tally
from prefect_core.payload import Payload, Receipt
from prefect_core.runs import TaskRun
from prefect_core.settings import current as settings
from prefect_core.task_runners import Host, TaskRunner, resolve_runner
from prefect_core.waiting import block_until_done

if TYPE_CHECKING:
    from prefect_core.context import RunContext
    from prefect_core.tasks import Task

_ENDED = "The task run that submitted this one ended before it could start."
_LET_GO = "The task run that submitted this one ended, and this one did not end within the grace period."


class NestedRunner(TaskRunner):
    """Runs payloads in this process while the bodies that submitted them wait."""

    def __init__(self) -> None:
        self.stand_ins = StandIns("prefect-core-stand-in")
        self._host: Host | None = None

    def duplicate(self) -> NestedRunner:
        return type(self)()

    def start(self, host: Host) -> None:
        self._host = host

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        assert self._host is not None
        if payload.is_async:
            payload.handle = self._host.spawn(_arun, payload, done, self.stand_ins)
        else:
            payload.handle = partial(_run, payload, done)
            self.stand_ins.add(payload.handle)

    def cancel(self, payload: Payload) -> bool:
        return not payload.is_async and payload.handle is not None and self.stand_ins.withdraw(payload.handle)

    def interrupt(self, payload: Payload) -> None:
        if payload.is_async and payload.handle is not None:
            payload.handle()

    def loop_needed(self, payload: Payload) -> object | None:
        return self._host.loop() if payload.is_async and self._host is not None else None

    def stop(self) -> None:
        self.stand_ins.close()


def run_attempt(payload: Payload, stand_ins: StandIns, place: waiting.Slot | None = None) -> Receipt:
    """Run a body of either colour, which lets stand-ins work while it waits, and block this thread until it has ended.

    `place` is what an engine has given to this thread, to be given back while an async body runs elsewhere.
    """
    if payload.is_async:
        receipt: Receipt = portal.run(_adopt, payload, stand_ins, place=place)
        return receipt
    with waiting.holding(Part(stand_ins)):
        return remote.run_attempt(payload)


async def _adopt(payload: Payload, stand_ins: StandIns) -> Receipt:
    waiting.async_slot.set(AsyncPart(stand_ins))
    # A body that blocks the loop with a wait gives its part back as well.
    with waiting.holding(Part(stand_ins)):
        return await remote.adopt_attempt(payload)


def _run(payload: Payload, done: Callable[[Receipt], None]) -> None:
    receipt = remote.run_attempt(payload)
    receipt.worker = receipt.worker or remote.worker_name()
    done(receipt)


async def _arun(payload: Payload, done: Callable[[Receipt], None], stand_ins: StandIns) -> None:
    receipt = await _adopt(payload, stand_ins)
    receipt.worker = remote.worker_name()
    done(receipt)


class _CountedElsewhere(Tally):
    """Has the children counted by the flow run in the main process."""

    __slots__ = ("_recorder",)

    def __init__(self, recorder: WorkerRecorder) -> None:
        super().__init__()
        self._recorder = recorder

    def add(self, run: TaskRun) -> None:
        self._recorder.counted(run)


class _ShownElsewhere(logs.TaskLines):
    """Shows no line about runs: the main process does, and counts them, when it records what happened."""

    __slots__ = ()

    def __init__(self) -> None:
        self.limit = self.notes = settings().logging_task_lines
        self.created = self.completed = self.failed = logs.SILENT
        self.has_told = True

    @property
    def were_held_back(self) -> bool:
        return False


class NestedDispatcher(Dispatcher):
    """The children of one attempt in a worker."""

    keeps_results = False

    def __init__(self, recorder: WorkerRecorder) -> None:
        nested = NestedRunner()
        super().__init__(nested)
        self.stand_ins = nested.stand_ins
        self.tally = _CountedElsewhere(recorder)
        self._shares_memory: dict[int, bool] = {}
        self.start()

    def _lines(self, parent: RunContext | None) -> Any:
        return _ShownElsewhere()

    def runner_for(self, task: Task[Any, Any]) -> TaskRunner:
        spec = task.task_runner
        if spec is None:
            return self.runner
        shares_memory = self._shares_memory.get(id(spec))
        if shares_memory is None:
            shares_memory = self._shares_memory[id(spec)] = resolve_runner(spec).shares_memory
        return super().runner_for(task) if shares_memory else self.runner

    def wind_up(self, receipt: Receipt) -> bool:
        """See all children to their end, when the body has ended; called in its place. False if some body runs on.

        After a timeout or a crash, those that have not begun are cancelled, and the others have a grace period.
        """
        is_clean = True
        if self._open:
            if receipt.timed_out or (receipt.error is not None and not isinstance(receipt.error, Exception)):
                self.cancel_unstarted(_ENDED)
                is_clean = block_until_done(
                    [self.idle()], 0 if receipt.timed_out else settings().interrupt_grace_seconds
                )
                self.let_go(_LET_GO)
            else:
                block_until_done([self.idle()])
        self.stop()
        return is_clean


class Children:
    """What the body of one attempt submits, if it does: most don't, and it costs nothing then. Also the slot of the body's thread."""

    __slots__ = ("_dispatcher", "_has_ended", "_recorder", "place")

    _making = threading.Lock()

    def __init__(self, recorder: WorkerRecorder) -> None:
        self._recorder = recorder
        self._dispatcher: NestedDispatcher | None = None
        self._has_ended = False
        self.place: waiting.Slot | None = None
        """What an engine has given to the thread, which is given back too."""

    @property
    def dispatcher(self) -> NestedDispatcher:
        """What takes them; after the end, one that refuses."""
        if self._dispatcher is None:
            with self._making:
                if self._dispatcher is None:
                    made = NestedDispatcher(self._recorder)
                    if self._has_ended:
                        made.stop()
                    self._dispatcher = made
        return self._dispatcher

    def give_back(self, is_done: Callable[[], bool]) -> None:
        """Let a stand-in work while the body waits (`waiting.Slot`)."""
        self.dispatcher.stand_ins.wait_begins(self, is_done)
        if self.place is not None:
            self.place.give_back(is_done)

    def take_again(self) -> None:
        """Take note that the body goes on."""
        if self.place is not None:
            self.place.take_again()
        self.dispatcher.stand_ins.wait_ends(self)

    def wind_up(self, receipt: Receipt) -> bool:
        """See them to their end, see `NestedDispatcher.wind_up`."""
        with self._making:
            self._has_ended = True
        return self._dispatcher is None or self._dispatcher.wind_up(receipt)


def _renew_lock() -> None:
    Children._making = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)
