"""Tasks that are mapped in chunks on clusters."""

from __future__ import annotations

import os
import time
from pathlib import Path

from prefect_core import task
from prefect_core.testing.contract.journal import Journal

LARGE = 300_000


@task
def slow_first(number: int, journal: Journal) -> bytes:
    """Take longer than a chunk keeps quiet; the next one waits until somebody has heard of the first."""
    journal.note(f"begun {number}")
    if number == 0:
        time.sleep(0.6)
    elif number == 1:
        journal.wait_for("the first is known")
    return bytes([number]) * LARGE


@task
def noted(number: int, journal: Journal) -> bytes:
    journal.note(f"{number} {os.getpid()}")
    return bytes([number]) * LARGE


@task
def numbered(number: int, journal: Journal) -> int:
    journal.note(str(number))
    return number


@task
def holding_first(number: int, journal: Journal) -> int:
    journal.note(str(number))
    if number == 0:
        journal.wait_for("go")
    return number


@task
def length(data: bytes) -> int:
    return len(data)


@task
def meet(number: int, folder: str) -> int:
    """Be quick, but for one, which waits for what is submitted after it."""
    met = Path(folder) / "met"
    if number == 61:
        met.touch()
    until = time.monotonic() + 30
    while number == 60 and not met.exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    return number


def processes(journal: Journal) -> dict[int, int]:
    """Return where `noted` first ran, by its numbers: a chunk may come in two where whoever submits it is slow."""
    first: dict[int, int] = {}
    for line in journal.lines():
        number, pid = map(int, line.split())
        first.setdefault(number, pid)
    return first
