"""What bodies write down of themselves, wherever they run: lines at the end of one file."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from prefect_core.task_runners import TaskRunner

MakeRunner = Callable[[], TaskRunner]
"""What the fixture `make_runner` gives: makes a runner that is not started, each time a fresh one."""


class Journal:
    """A file that bodies on any thread and in any process of this machine add lines to. Travels by its path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, line: str) -> None:
        """Add a line; it is in the kernel's hands when this returns, so it outlives the process."""
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, f"{line}\n".encode())
        finally:
            os.close(file)

    def wait_for(self, line: str, timeout_seconds: float = 20.0) -> None:
        """Block until somebody has noted the line. Raises `AssertionError` after `timeout_seconds`."""
        deadline = time.monotonic() + timeout_seconds
        pause = threading.Event()
        while line not in self.lines():
            if time.monotonic() > deadline:
                raise AssertionError(f"Nobody noted {line!r} within {timeout_seconds} s, only {self.lines()}.")
            # There is no bell between processes.
            pause.wait(0.01)

    def lines(self) -> list[str]:
        """Return all lines, first to last."""
        return self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
