"""What unit tests of the engine share: a history in memory, and a clock that tests move."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_core import clock
from tests.unit.recorded import Recorded, in_memory


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """Keep what is recorded in memory, and let the test look at it."""
    with in_memory() as kept:
        yield kept


class SteppedClock(clock.SystemClock):
    """The real clock, but a sleep on it only notes how long it would have been."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)


@pytest.fixture
def stepped_clock() -> Iterator[SteppedClock]:
    """Let delays of direct calls pass in no time."""
    stepped = SteppedClock()
    before = clock.install(stepped)
    yield stepped
    clock.install(before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Be in an empty folder for programs, and forget the modules that are loaded from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
