"""How soon does a paused flow go on? One that waits, after a resume from another process; and one of 1,000 stored tasks that was suspended
at its next new task (from the start of the process).

In place of a bare engine stands the limit, so that a ratio of 1 is just met. What a task pays while nobody pauses is in `checks`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, against_limit, throwaway_home
from prefect_core import flow, history, pause_flow_run, resume_flow_run, task
from prefect_core.context import FlowRunContext

os.environ.setdefault("PREFECT_CORE_LOGGING_LEVEL", "CRITICAL")
COUNT = 1_000
RESUMES = 20
SUSPENDED = 5
WAKE_SECONDS = 0.5
NEXT_SECONDS = 1.0


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
