"""What does a task pay for what may be done to it, while nobody does it? For being paused, cancelled, or limited by its tags.

Each figure is the CPU time of one thread for exactly that, so that others on the machine don't count; in place of a bare engine stands the
limit of 0.5 µs, so that a ratio of 1 is just met. Leases cost no call anything: they are renewed by a thread of their own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import anyio

from benchmarks.measure import Figure, against_limit, throwaway_home
from prefect_core import history, task
from prefect_core.context import FlowRunContext, TaskRunContext
from prefect_core.engine import cancels
from prefect_core.engine.outside import outside
from prefect_core.engine.task_call import TaskCall
from prefect_core.limits import limited
from prefect_core.limits.names import make
from prefect_core.runs import FlowRun, TaskRun
from prefect_core.state_kinds import RUNNING
from prefect_core.states import State

os.environ.setdefault("PREFECT_CORE_LOGGING_LEVEL", "CRITICAL")
ROUNDS = 50_000
REPEATS = 9
LIMIT_MICROSECONDS = 0.5


@task
def small(number: int) -> int:
    return number


def measure() -> list[Figure]:
    with throwaway_home():
        history.current()
        figures = [
            _figure("what a body's beginning pays for pauses", *_beginnings()),
            _figure("a direct call outside of flows, for being cancelled", _taken_note_of, _nothing),
            *anyio.run(_async_bodies),
            _figure("a call with tags that have no limit", _with_tags(), _nothing),
        ]
        make("tag:another", 1)
        return [*figures, _figure("the same where another tag has one", _with_tags(), _nothing)]


def _figure(what: str, ours: Callable[[], object], bare: Callable[[], object]) -> Figure:
    taken = [_microseconds(ours) - _microseconds(bare) for _ in range(REPEATS)]
    return against_limit(what, taken, LIMIT_MICROSECONDS, 1, "µs")


def _microseconds(work: Callable[[], object]) -> float:
    begun = time.thread_time()
    for _ in range(ROUNDS):
        work()
    return (time.thread_time() - begun) / ROUNDS * 1e6


def _nothing() -> None:
    """What the loop and the call cost by themselves."""


def _around() -> TaskRunContext:
    """Return the context of a task in a flow, both of which run."""
    flow_run = FlowRun(State(RUNNING), "around", "around", frozenset(), None)
    around = FlowRunContext(None, flow_run, {}, False, None)
    return TaskRunContext(small, TaskRun(State(RUNNING), "small", "small", flow_run, 0, frozenset()), {}, False, around)


class _Begun(TaskCall):
    """A call whose beginning does nothing but look at the gate."""

    __slots__ = ()

    def __init__(self, context: Any) -> None:
        self.context, self.runner, self.task = context, None, small

    def _enter_running(self, started_us: int) -> None:
        """Not recorded."""


class _Unasked(_Begun):
    """The same without the look at the gate, as it was before there were any."""

    __slots__ = ()

    def begin(self, started_us: int) -> None:
        self._enter_running(started_us)
        if self.task.on_running_hooks:
            raise AssertionError("it has none")


class _Inside:
    def __init__(self, around: FlowRunContext) -> None:
        self.flow_context = around


def _beginnings() -> tuple[Callable[[], object], Callable[[], object]]:
    inside = _around()
    call, unasked = _Begun(inside), _Unasked(inside)
    return lambda: call.begin(0), lambda: unasked.begin(0)


def _taken_note_of() -> None:
    taker = outside()
    taker.enter(_CALL)
    taker.leave(_CALL)


class _Body:
    """What of a payload has to do with cancellations."""

    def __init__(self) -> None:
        self.context = _around()
        self.scope: Any = None


async def _async_bodies() -> list[Figure]:
    body: Any = _Body()
    with anyio.move_on_after(None) as scope:

        def reach() -> None:
            cancels.let_reach(body, scope)

        cancels.begin()
        meanwhile = _figure("an async body, while another run is being cancelled", reach, _nothing)
        cancels.end()
        return [_figure("an async body, for being cancelled", reach, _nothing), meanwhile]


def _with_tags() -> Callable[[], object]:
    tags = frozenset({"one", "two"})
    return lambda: tags and limited(tags)


_CALL: Any = _Begun(None)
