"""The dispatcher of tasks that are submitted outside of flows, and of what a forked child submits inside of one."""

from __future__ import annotations

import atexit
import os
import threading
from typing import Any

from prefect_core import context
from prefect_core.engine.dispatcher import Dispatcher, Tally
from prefect_core.runs import TaskRun
from prefect_core.task_runners import resolve_runner
from prefect_core.waiting import block_until_done


class _Untold(Tally):
    """Counts nothing: nobody asks how the tasks outside of flows ended, and they may be many."""

    __slots__ = ()

    def add(self, run: TaskRun) -> None:
        """Forget it."""


_outside: Dispatcher | None = None
_outside_lock = threading.Lock()
_pid = 0


def outside() -> Dispatcher:
    """Return the dispatcher of tasks that are submitted outside of flows: concurrent, for the whole process, closed at its exit."""
    global _outside, _pid
    with _outside_lock:
        if _outside is None:
            _outside = Dispatcher(resolve_runner("concurrent"))
            _outside.tally = _Untold()
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
