"""The scheduler of a Dask cluster is killed in the midst of runs: each ends Crashed, soon, and says why."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from prefect_core.task_runners import DaskTaskRunner
from prefect_core.testing.contract.journal import Journal
from tests.clusters.existing import ExistingCluster
from tests.clusters.faults.judging import judge_ended
from tests.clusters.faults.killed_program import program
from tests.clusters.faults.killing import LATEST, renew_home, wait_for_bodies


def kill_scheduler(folder: Path, moment: int) -> float:
    """Kill it once so many bodies have begun; returns how many seconds later the run has ended."""
    folder.mkdir()
    journal = Journal(folder / "journal")
    killed: list[float] = []
    with ExistingCluster(folder, workers=2) as cluster:

        def kill() -> None:
            wait_for_bodies(journal, moment)
            killed.append(time.monotonic())
            cluster.kill_scheduler()

        thread = threading.Thread(target=kill)
        thread.start()
        state = program(DaskTaskRunner(address=cluster.address))(journal, return_state=True)
        ended = time.monotonic()
        thread.join()
        judge_ended(state, journal, f"The connection to the Dask scheduler at {cluster.address} was lost")
    return ended - killed[0]


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_campaign_of_killed_schedulers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    took = []
    for number in range(10):
        renew_home(tmp_path / f"home-{number}", monkeypatch)
        took.append(kill_scheduler(tmp_path / str(number), chance.randrange(1, LATEST)))
        assert took[-1] < 30
    print(f"\ncampaign: Dask schedulers: {len(took)} kills, each run Crashed, at the latest after {max(took):.1f} s")
