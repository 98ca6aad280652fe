"""What bodies write down of themselves, wherever they run: lines at the end of one file."""

from __future__ import annotations

import os
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

    def lines(self) -> list[str]:
        """Return all lines, first to last."""
        return self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
