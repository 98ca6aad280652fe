"""Runs the program while something of its cluster is killed at random moments, which a seed decides."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from prefect_core import history, settings
from prefect_core.task_runners import TaskRunner
from prefect_core.testing.contract.journal import Journal
from tests.clusters.faults.judging import Tally, judge
from tests.clusters.faults.killed_program import BODIES, program

LATEST = BODIES - 3
"""So many bodies are there to be waited for, whatever is killed."""


class Campaign:
    """Runs one after the other, each with a history of its own."""

    def __init__(self, folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.chance = random.Random(seed)
        self.tally = Tally()
        self._folder = folder
        self._monkeypatch = monkeypatch

    def run(self, runner: TaskRunner, kill: Callable[[Journal], Sequence[str]], kills: int, says: str) -> None:
        """Run the program once, call `kill` so often meanwhile, which returns the workers that ended by it, and judge the run."""
        renew_home(self._folder / f"home-{self.tally.kills}", self._monkeypatch)
        journal = Journal(self._folder / f"journal-{self.tally.kills}")
        killed: list[str] = []
        moments = sorted(self.chance.randrange(1, LATEST) for _ in range(kills))
        thread = threading.Thread(target=self._kill, args=(journal, kill, moments, killed))
        thread.start()
        state = program(runner)(journal, return_state=True)
        thread.join()
        self.tally.kills += kills
        judge(state, journal, killed, says, self.tally)

    def _kill(
        self, journal: Journal, kill: Callable[[Journal], Sequence[str]], moments: list[int], killed: list[str]
    ) -> None:
        for moment in moments:
            wait_for_bodies(journal, moment)
            time.sleep(self.chance.random() * 0.02)
            killed += kill(journal)


def renew_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the next run recorded in a history of its own."""
    recorder = history.install(None)
    if recorder is not None:
        recorder.close()
    monkeypatch.setenv("PREFECT_CORE_HOME", str(home))
    settings.forget()


def wait_for_bodies(journal: Journal, count: int) -> None:
    """Block until so many bodies have begun."""
    while len(journal.lines()) < count:
        time.sleep(0.002)


def pids_in(journal: Journal) -> list[int]:
    """Return the processes of bodies, in the order in which those began."""
    return [int(line.split()[3]) for line in journal.lines()]


def kills_of_a_run(campaign: Any, wanted: int) -> int:
    """Return how many kills the next run is to have: one and two in turn."""
    return min(1 + campaign.tally.kills % 2, wanted - campaign.tally.kills)
