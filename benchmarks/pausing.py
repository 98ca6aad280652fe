"""What do pauses cost? How soon a flow that waits goes on after a resume from another process, how soon one of 1,000 stored tasks that was
suspended is at its next new task (from the start of the process), and what a task pays while nobody pauses.

In place of a bare engine stands the limit, so that a ratio of 1 is just met.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import timeit
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, against_limit, throwaway_home
from prefect_core import flow, history, pause_flow_run, resume_flow_run, task
from prefect_core.context import FlowRunContext
from prefect_core.engine.task_call import TaskCall

os.environ.setdefault("PREFECT_CORE_LOGGING_LEVEL", "CRITICAL")
COUNT = 1_000
RESUMES = 20
SUSPENDED = 5
WAKE_SECONDS = 0.5
NEXT_SECONDS = 1.0
CHECK_MICROSECONDS = 0.5


def _say_now() -> None:
    # The monotonic clock is that of the machine: the process that measures reads the same.
    print(time.monotonic(), flush=True)


@flow
def waiting() -> None:
    for _ in range(RESUMES):
        pause_flow_run()
        _say_now()


@task(persist_result=True)
def small(number: int) -> int:
    return number


@task
def next_new() -> None:
    _say_now()


@flow
def many() -> None:
    futures = [small.submit(number) for number in range(COUNT)]
    assert sum(future.result() for future in futures) == sum(range(COUNT))
    # Suspended again, and so measured again.
    for turn in range(SUSPENDED + 1):
        pause_flow_run(reschedule=True, key=str(turn), timeout=None)
        if turn == _turns():
            next_new()


def _turns() -> int:
    run = FlowRunContext.get()
    assert run is not None
    return run.flow_run.attempt - 2


def measure() -> list[Figure]:
    with throwaway_home():
        wakes = _wakes()
    with throwaway_home():
        nexts = _nexts()
    return [
        against_limit("a flow that waits goes on after a resume", wakes, WAKE_SECONDS, 1e3, "ms"),
        against_limit(f"a suspended flow of {COUNT:,} stored tasks is at its next one", nexts, NEXT_SECONDS, 1e3, "ms"),
        against_limit("what a body's beginning pays", _checks(), CHECK_MICROSECONDS, 1, "µs"),
    ]


def _started(name: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from prefect_core.cli.main import main; main()", name, *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )


def _line(process: subprocess.Popen[str]) -> float:
    assert process.stdout is not None
    return float(process.stdout.readline())


def _newest() -> Any:
    with closing(history.open_store()) as store:
        rows = store.flow_runs()
    return rows[0] if rows else None


def _wakes() -> list[float]:
    taken = []
    with _started("run", f"{Path(__file__)}:waiting") as process:
        for _ in range(RESUMES):
            while (row := _newest()) is None or row.state_type != "PAUSED":
                time.sleep(0.001)
            asked = time.monotonic()
            resume_flow_run(row.id)
            taken.append(_line(process) - asked)
    return taken


def _nexts() -> list[float]:
    taken = []
    _started("run", f"{Path(__file__)}:many").communicate()
    run = str(_newest().id)
    for _ in range(SUSPENDED):
        began = time.monotonic()
        process = _started("flow-run", "resume", run)
        taken.append(_line(process) - began)
        process.communicate()
    return taken


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


def _checks() -> list[float]:
    run: Any = None
    inside = _Inside(FlowRunContext(None, run, {}, False, None))
    call, unasked = _Begun(inside), _Unasked(inside)
    rounds = 100_000
    taken = []
    for _ in range(9):
        seconds = timeit.timeit(lambda: call.begin(0), number=rounds)
        taken.append((seconds - timeit.timeit(lambda: unasked.begin(0), number=rounds)) / rounds * 1e6)
    return taken
