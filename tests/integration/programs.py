"""Runs small programs in processes of their own, hits them with signals at known points, and reads the history that they leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect_core import history
from prefect_core.history import HistoryStore

ROOT = Path(__file__).parents[2]
PREAMBLE = """
import os, sys, threading, time
from prefect_core import flow, task

def say(word):
    # One write, whatever thread or process: lines of two never mix.
    os.write(1, (word + "\\n").encode())

@task
def linger(seconds=30):
    say("begun")
    time.sleep(seconds)
    return seconds
"""


class Program:
    """A running program that says a line for each thing that has happened in it."""

    def __init__(self, home: Path, code: str, **variables: str) -> None:
        roots = os.pathsep.join(map(str, (ROOT, ROOT / "runners", ROOT / "serializers")))
        environment = {**os.environ, "PREFECT_CORE_HOME": str(home), "PYTHONPATH": roots, **variables}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PREAMBLE + textwrap.dedent(code)],
            cwd=home,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.errors = ""
        self._signalled = 0.0

    def wait_for(self, word: str, count: int = 1) -> None:
        """Read until the program has said a word some times."""
        assert self.process.stdout is not None
        while self.lines.count(word) < count:
            line = self.process.stdout.readline()
            assert line, f"the program ended early: {self.lines} {self.process.stderr and self.process.stderr.read()}"
            self.lines.append(line.rstrip("\n"))

    def hit(self, number: signal.Signals = signal.SIGINT) -> None:
        """Send a signal, as Ctrl-C in a terminal or an orchestrator's stop would."""
        self._signalled = time.monotonic()
        self.process.send_signal(number)

    def end(self, timeout_seconds: float = 25) -> tuple[int, float]:
        """Wait for the end; return the exit code and the seconds since the last signal."""
        rest, self.errors = self.process.communicate(timeout=timeout_seconds)
        self.lines += rest.splitlines()
        return self.process.returncode, time.monotonic() - self._signalled


@contextmanager
def running(home: Path, code: str, **variables: str) -> Iterator[Program]:
    """Run a program for the length of the block; what is left of it then is killed."""
    program = Program(home, code, **variables)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
        program.process.communicate()


@contextmanager
def store_of(home: Path) -> Iterator[HistoryStore]:
    store = history.open_store(home)
    try:
        assert store.check() == []
        yield store
    finally:
        store.close()


def ends(home: Path) -> tuple[Counter[tuple[str, str, str | None]], Counter[tuple[str, str, str | None]]]:
    """Return how the flow runs, and how the task runs, of a history ended: counts of (name, state, message)."""
    with store_of(home) as store:
        flows = Counter((row.flow_name, row.state_name, row.state_message) for row in store.flow_runs())
        tasks = Counter((row.task_name, row.state_name, row.state_message) for row in store.task_runs())
    return flows, tasks
