"""Worker processes of a Ray are killed in the midst of runs: each run ends well, and its history tells the truth."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from prefect_core.engine import remote
from prefect_core.task_runners import RayTaskRunner
from prefect_core.testing.contract.journal import Journal
from tests.clusters.faults.killing import Campaign, kills_of_a_run, pids_in
from tests.clusters.ray_bodies import is_alive

pytestmark = pytest.mark.usefixtures("borrowed")


def kill_workers(campaign: Campaign, kills: int) -> None:
    host = remote.process_name().partition(":")[0]

    def kill_one(journal: Journal) -> list[str]:
        # What began last runs still, most likely; if all of these have been killed, others are about to begin.
        while not (alive := sorted({pid for pid in pids_in(journal)[-6:] if is_alive(pid)})):
            time.sleep(0.002)
        pid = campaign.chance.choice(alive)
        os.kill(pid, signal.SIGKILL)
        return [f"{host}:{pid}"]

    while campaign.tally.kills < kills:
        campaign.run(RayTaskRunner(), kill_one, kills_of_a_run(campaign, kills), "Ray lost the task")


def test_killed_workers_cost_what_they_had_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = Campaign(tmp_path, 4, monkeypatch)
    kill_workers(campaign, 4)
    assert campaign.tally.kills == 4


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_campaign_of_killed_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = Campaign(tmp_path, 1, monkeypatch)
    kill_workers(campaign, 50)
    print(f"\ncampaign: Ray workers: {campaign.tally}")
    # So many moments can't all have been between bodies.
    assert campaign.tally.lost
