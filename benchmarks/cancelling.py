"""How long does it take until everything is dead? 64 sleeping tasks three flows deep, cancelled from another process with a grace of 3 s.

From the request to the end of the program, of every process that it has started, and of every other that ran a body, on each runner. In
place of a bare engine stands the limit, so that a ratio of 1 is just met.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.measure import Figure, against_limit, throwaway_home
from prefect_core import cancel_flow_run, history

GRACE_SECONDS = 3
LIMIT_SECONDS = 5.0
REPEATS = 3
DASK = 'DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"})'


class Row(NamedTuple):
    """What is measured on one runner."""

    runner: str
    begun: int
    """How many bodies begin."""
    body: str = "rest"
    is_borrowed: bool = False
    """Whether the threads are those of an executor of the program's own, which Python waits for when it ends."""


ROWS = {
    "sequential": Row('"sequential"', 1),
    "64 threads": Row('"concurrent:64"', 64),
    "4 processes": Row('"processes:4"', 4),
    "an executor of 64 threads": Row("ExecutorTaskRunner(ThreadPoolExecutor(64))", 64, is_borrowed=True),
    "an event loop": Row('"concurrent"', 64, "async_rest"),
    "4 isolated processes": Row('"concurrent:4"', 4, "isolated_rest"),
    "Dask": Row(DASK, 2),
    "Ray": Row('"ray"', 2),
}
PROGRAM = """
import asyncio, os, time
from concurrent.futures import ThreadPoolExecutor
from prefect_core import flow, task
from prefect_core.task_runners import DaskTaskRunner, ExecutorTaskRunner

def begin():
    # Not begun before it can be seen: one write, whatever thread or process.
    with open("bodies", "a") as bodies:
        print(os.getpid(), file=bodies)

@task
def rest(number):
    begin()
    time.sleep(60)

@task
async def async_rest(number):
    begin()
    await asyncio.sleep(60)

@task(isolation="process")
def isolated_rest(number):
    begin()
    time.sleep(60)

@flow(task_runner=RUNNER)
def third():
    for future in [BODY.submit(number) for number in range(64)]:
        future.wait()

@flow
def second():
    third()

@flow
def first():
    second()

if __name__ == "__main__":
    try:
        first()
    finally:
        if IS_BORROWED:
            os._exit(1)
"""


def measure() -> Iterator[Figure]:
    for name, row in ROWS.items():
        taken = []
        for _ in range(REPEATS):
            with throwaway_home() as home:
                taken.append(_until_dead(home, row))
        what = f"64 sleepers three flows deep on {name}, all dead"
        yield against_limit(what, taken, LIMIT_SECONDS, 1, "seconds")


def _until_dead(home: Path, row: Row) -> float:
    program_text = PROGRAM.replace("RUNNER", row.runner).replace("BODY", row.body)
    (home / "program.py").write_text(program_text.replace("IS_BORROWED", str(row.is_borrowed)))
    environment = {**os.environ, "PREFECT_CORE_LOGGING_LEVEL": "CRITICAL"}
    command = [sys.executable, "program.py"]
    with subprocess.Popen(command, cwd=home, env=environment, stderr=subprocess.DEVNULL) as program:
        pids = _bodies(home, row.begun)
        # Those too that run no body.
        pids |= {child.pid for child in psutil.Process(program.pid).children(recursive=True)}
        asked = time.monotonic()
        cancel_flow_run(_outermost(), GRACE_SECONDS)
        program.wait()
        while any(map(psutil.pid_exists, pids)):
            time.sleep(0.005)
        return time.monotonic() - asked


def _bodies(home: Path, count: int) -> set[int]:
    """Wait until so many bodies run, and return the processes that they run in."""
    path = home / "bodies"
    while not path.exists() or len(lines := path.read_text().splitlines()) < count:
        time.sleep(0.02)
    return set(map(int, lines))


def _outermost() -> str:
    store = history.open_store()
    try:
        return next(str(row.id) for row in store.flow_runs() if row.flow_name == "first")
    finally:
        store.close()
