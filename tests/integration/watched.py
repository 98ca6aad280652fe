"""Processes of bodies, as a test sees them: who runs, who ends, and which pids a body told."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterable
from pathlib import Path

PATIENCE_SECONDS = 40
"""For what is to happen soon, on a machine that is busy."""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def ends(pid: int) -> bool:
    """Wait until a process is gone, which has been told to end."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watch], [], [], PATIENCE_SECONDS)[0])
    finally:
        os.close(watch)


def descendants(pid: int) -> set[int]:
    """Return the processes that a process has started, those that these have, and so on, as far as they live."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            # It ended just now.
            continue
    found: set[int] = set()
    new = {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new}
        found |= new
    return found


def still_running(pids: Iterable[int]) -> list[int]:
    """Return which of these processes have not ended."""
    return [pid for pid in pids if is_running(pid)]


class Told:
    """A pipe that a body tells its process in, and that of a child; read by a thread, since bodies may block this one."""

    def __init__(self, pipe: Path) -> None:
        os.mkfifo(pipe)
        self.pipe = pipe
        self._pids: list[int] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self._pids = list(map(int, self.pipe.read_text().split()))

    def pids(self) -> list[int]:
        self._reader.join(PATIENCE_SECONDS)
        assert len(self._pids) == 2
        return self._pids

    def close(self) -> None:
        for pid in self._pids:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
