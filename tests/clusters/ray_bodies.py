"""Tasks that Ray's workers import by name, and what is looked at when a run on Ray has ended."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from prefect_core import task
from prefect_core.testing.contract.journal import Journal


@task
def process() -> int:
    return os.getpid()


@task
def hold(journal: Journal) -> None:
    journal.note(str(os.getpid()))
    journal.wait_for("go", 60)
    journal.note("went on")


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False


def still_alive(pids: Iterable[int | str], seconds: float = 5.0) -> list[int]:
    """Return which processes live on; one that was told to end, and runs nothing any more, may take a moment."""
    left, deadline = list(map(int, pids)), time.monotonic() + seconds
    while (left := list(filter(is_alive, left))) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def our_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("prefect-core-ray")]
