"""Worker processes of a Dask cluster are killed in the midst of runs: each run ends well, and its history tells the truth."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import distributed
import pytest

from prefect_core.task_runners import DaskTaskRunner
from prefect_core.testing.contract.journal import Journal
from tests.clusters.existing import ExistingCluster
from tests.clusters.faults.killing import Campaign, kills_of_a_run

WORKERS = 3


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ExistingCluster]:
    with ExistingCluster(tmp_path, workers=WORKERS) as cluster:
        yield cluster


def kill_workers(campaign: Campaign, cluster: ExistingCluster, kills: int) -> None:
    with distributed.Client(cluster.address, set_as_default=False) as client:
        while campaign.tally.kills < kills:
            client.wait_for_workers(WORKERS, timeout=60)
            alive = sorted(client.run(os.getpid).items())
            campaign.chance.shuffle(alive)

            def kill_one(_: Journal, alive: list[tuple[str, int]] = alive) -> list[str]:
                address, pid = alive.pop()
                os.kill(pid, signal.SIGKILL)
                cluster.add_worker()
                return [address]

            runner = DaskTaskRunner(address=cluster.address)
            campaign.run(runner, kill_one, kills_of_a_run(campaign, kills), "ended while it had this task")


def test_killed_workers_cost_what_they_had_begun(
    cluster: ExistingCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = Campaign(tmp_path, 4, monkeypatch)
    kill_workers(campaign, cluster, 3)
    assert campaign.tally.kills == 3


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_campaign_of_killed_workers(cluster: ExistingCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = Campaign(tmp_path, 1, monkeypatch)
    kill_workers(campaign, cluster, 50)
    print(f"\ncampaign: Dask workers: {campaign.tally}")
    # So many moments can't all have been between bodies.
    assert campaign.tally.lost
