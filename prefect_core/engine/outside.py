"""The dispatcher of what is called and submitted outside of flows, and of what a forked child submits inside of one.

While something is under way there, this process hears what is asked of it, under its own number in place of a flow run's.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prefect_core import context, history
from prefect_core.control import steward
from prefect_core.engine import cancels
from prefect_core.engine.dispatcher import Dispatcher, InnerCall, OpenCall
from prefect_core.engine.tally import Tally
from prefect_core.runs import TaskRun
from prefect_core.task_runners import TaskRunner, resolve_runner
from prefect_core.waiting import block_until_done

if TYPE_CHECKING:
    from prefect_core.control.watches import Delivery, Watch
    from prefect_core.futures import PrefectFuture
    from prefect_core.history import Recorder


class _Untold(Tally):
    """Counts nothing: nobody asks how the tasks outside of flows ended, and they may be many."""

    __slots__ = ()

    def add(self, run: TaskRun) -> None:
        """Forget it."""


class _Outside(Dispatcher):
    """What takes them, for the whole process."""

    def __init__(self, runner: TaskRunner) -> None:
        super().__init__(runner)
        self.tally = _Untold()
        self._hearing = threading.Lock()
        self._watch: Watch | None = None
        self._recorder: Recorder | None = None

    def admit(self, call: OpenCall, future: PrefectFuture[Any]) -> bool:
        is_admitted = super().admit(call, future)
        self._hear()
        return is_admitted

    def enter(self, call: InnerCall) -> None:
        # All that a direct call pays for being heard of.
        self._inner[call] = None
        watch = self._watch
        if watch is None or watch.is_asleep or self._recorder is not history.current() or not cancels.hears_for_good:
            self._hear()

    def _hear(self) -> None:
        """Hear what is asked of calls that can be found from now on."""
        watch = self._watch
        if watch is None or self._recorder is not history.current():
            watch = self._begin_to_hear()
        if watch is not None:
            watch.wake()
        if not cancels.hears_for_good:
            cancels.hear_for_good()

    def _begin_to_hear(self) -> Watch | None:
        recorder = history.current()
        if not recorder.owns_runs or _dealing is None:
            # In a worker: the process is asked that has what this is inside of.
            return None
        with self._hearing:
            if self._watch is None or self._recorder is not recorder:
                self._watch = steward.watch(recorder.process << 32, self._deal_with, self._is_at_work)
                self._recorder = recorder
            return self._watch

    def _is_at_work(self) -> bool:
        return bool(self._open or self._inner)

    def _deal_with(self, delivery: Delivery) -> None:
        assert _dealing is not None
        _dealing(self, delivery)


Dealing = Callable[[Dispatcher, "Delivery"], object]

_dealing: Dealing | None = None


def let_deal(dealing: Dealing) -> None:
    """Have what is asked of calls outside of flows dealt with by a room above this one, like a handler of `asked`."""
    global _dealing
    _dealing = dealing


_outside: _Outside | None = None
_outside_lock = threading.Lock()
_pid = 0


def outside() -> Dispatcher:
    """Return the dispatcher of tasks outside of flows: concurrent, for the whole process, closed at its exit."""
    return _outside if _outside is not None else _begin()


def _begin() -> Dispatcher:
    global _outside, _pid
    with _outside_lock:
        if _outside is None:
            _outside = _Outside(resolve_runner("concurrent"))
            _outside.start()
            _pid = os.getpid()
            atexit.register(_close_outside)
        return _outside


def _close_outside() -> None:
    if _outside is not None and _pid == os.getpid():
        block_until_done([_outside.idle()])
        _outside.stop()


class _OfParent:
    """Stands where the dispatcher of a run stood, in a child made by fork inside that run's body: its threads are the parent's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(outside(), name)


def _begin_anew() -> None:
    global _outside, _outside_lock
    _outside, _outside_lock = None, threading.Lock()
    around = context.current()
    while around is not None:
        if isinstance(around, context.FlowRunContext):
            around.dispatcher = _OfParent()
        else:
            around.outside = _OfParent()
        around = around.parent


os.register_at_fork(after_in_child=_begin_anew)
