"""How long does it take until everything is dead? 64 sleeping tasks three flows deep, cancelled from another process with a grace of 3 s.

From the request to the end of the program and of every process that ran a body, on each runner. In place of a bare engine stands the
limit, so that a ratio of 1 is just met.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.measure import Figure, against_limit, throwaway_home
from prefect_core import cancel_flow_run, history

GRACE_SECONDS = 3
LIMIT_SECONDS = 5.0
REPEATS = 3
DASK = 'DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"})'
RUNNERS = {
    "sequential": ('"sequential"', 1),
    "64 threads": ('"concurrent:64"', 64),
    "4 processes": ('"processes:4"', 4),
    "Dask": (DASK, 2),
    "Ray": ('"ray"', 2),
}
"""With how many bodies begin."""
PROGRAM = """
import os, time
from prefect_core import flow, task
from prefect_core.task_runners import DaskTaskRunner

@task
def rest(number):
    # Not begun before it can be seen: one write, whatever thread or process.
    with open("bodies", "a") as bodies:
        print(os.getpid(), file=bodies)
    time.sleep(60)

@flow(task_runner=RUNNER)
def third():
    for future in [rest.submit(number) for number in range(64)]:
        future.wait()

@flow
def second():
    third()

@flow
def first():
    second()

if __name__ == "__main__":
    first()
"""


def measure() -> Iterator[Figure]:
    for name, (runner, begun) in RUNNERS.items():
        taken = []
        for _ in range(REPEATS):
            with throwaway_home() as home:
                taken.append(_until_dead(home, runner, begun))
        what = f"64 sleepers three flows deep on {name}, all dead"
        yield against_limit(what, taken, LIMIT_SECONDS, 1, "seconds")


def _until_dead(home: Path, runner: str, begun: int) -> float:
    (home / "program.py").write_text(PROGRAM.replace("RUNNER", runner))
    environment = {**os.environ, "PREFECT_CORE_LOGGING_LEVEL": "CRITICAL"}
    command = [sys.executable, "program.py"]
    with subprocess.Popen(command, cwd=home, env=environment, stderr=subprocess.DEVNULL) as program:
        pids = _bodies(home, begun)
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
