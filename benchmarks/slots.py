"""How soon does a waiter in another process begin once a slot is given back here? It is told by nobody: its process looks for itself.

In place of a bare engine stands the limit, so that a ratio of 1 is just met. Each wait begins at another moment between two of these looks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import Figure, against_limit, throwaway_home
from prefect_core import history
from prefect_core.concurrency import concurrency
from prefect_core.history.process import is_gone
from prefect_core.limits.names import make

os.environ.setdefault("PREFECT_CORE_LOGGING_LEVEL", "CRITICAL")
LIMIT_SECONDS = 0.25
WAITS = 40
STEP_SECONDS = 0.011
"""How much longer each waits than the one before."""
NAME = "bench"


def wait_in_turn() -> None:
    """Take the slot again and again, as the other process, and say when it was there."""
    for _ in range(WAITS):
        with concurrency(NAME):
            # The monotonic clock is that of the machine: the process that measures reads the same.
            print(time.monotonic(), flush=True)
        sys.stdin.readline()


def measure() -> list[Figure]:
    with throwaway_home():
        make(NAME, 1)
        taken = _waits()
    return [
        against_limit("a waiter in another process has a slot that was given back", taken, LIMIT_SECONDS, 1e3, "ms")
    ]


def _waits() -> list[float]:
    taken: list[float] = []
    other: subprocess.Popen[str] | None = None
    for number in range(WAITS):
        with concurrency(NAME):
            if other is None:
                other = _started()
            else:
                _let_go_on(other)
            _await_waiter()
            time.sleep(STEP_SECONDS * (number % 10))
        released = time.monotonic()
        assert other.stdout is not None
        taken.append(float(other.stdout.readline()) - released)
    assert other is not None
    other.communicate("\n", timeout=60)
    return taken


def _started() -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from benchmarks.slots import wait_in_turn; wait_in_turn()"]
    folder = Path(__file__).parents[1]
    return subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _let_go_on(other: subprocess.Popen[str]) -> None:
    assert other.stdin is not None
    other.stdin.write("\n")
    other.stdin.flush()


def _await_waiter() -> None:
    """Block until the other has asked for the slot."""
    table = history.current().limits()[0]
    while not any(row.granted_us is None for row in table.requests(is_gone)):
        time.sleep(0.001)
