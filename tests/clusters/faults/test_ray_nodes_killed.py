"""The raylet of one of two nodes is killed in the midst of runs: each run ends well, and its history tells the truth."""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prefect_core.engine import remote
from prefect_core.task_runners import RayTaskRunner
from prefect_core.testing.contract.journal import Journal
from tests.clusters.existing_ray import SOON_MISSED
from tests.clusters.faults import killed_program
from tests.clusters.faults.killing import Campaign

pytestmark = pytest.mark.slow

_NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}
_FAR = {"num_cpus": 2, "object_store_memory": 100 << 20}


def _load() -> None:
    importlib.import_module(killed_program.__name__)
    importlib.import_module("numpy")
    # So that each worker of the node gets one of these.
    time.sleep(0.5)


class Nodes:
    """A node for this process, and one that is killed and replaced."""

    def __init__(self) -> None:
        # The temporary folder of another Ray of this process may not be used again.
        self.cluster = Cluster(initialize_head=True, head_node_args={**_NODE, "_system_config": SOON_MISSED})
        self._far: Any = None
        self.replace()

    def replace(self) -> None:
        if self._far is not None:
            self.cluster.remove_node(self._far, allow_graceful=False)
        self._far = self.cluster.add_node(**_FAR)

    def warm_up(self) -> None:
        """Have workers of the far node load what bodies need, so that it gets its share of them."""
        there = NodeAffinitySchedulingStrategy(self._far.node_id, soft=False)
        load = ray.remote(num_cpus=1)(_load).options(scheduling_strategy=there)
        ray.get([load.remote() for _ in range(_FAR["num_cpus"])])

    def kill(self, _: Journal) -> list[str]:
        """Kill the raylet of the far node; returns its workers, which end behind it."""
        raylet = psutil.Process(self._far.all_processes["raylet"][0].process.pid)
        host = remote.process_name().partition(":")[0]
        workers = [f"{host}:{child.pid}" for child in raylet.children()]
        os.kill(raylet.pid, signal.SIGKILL)
        return workers


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    ray.init(nodes.cluster.address, log_to_driver=False, logging_level="error")
    yield nodes
    ray.shutdown()
    nodes.cluster.shutdown()


def kill_nodes(campaign: Campaign, nodes: Nodes, kills: int) -> None:
    while campaign.tally.kills < kills:
        nodes.warm_up()
        campaign.run(RayTaskRunner(), nodes.kill, 1, "Ray lost the task")
        nodes.replace()


def test_a_killed_node_costs_what_ran_and_lay_there(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = Campaign(tmp_path, 4, monkeypatch)
    kill_nodes(campaign, nodes, 1)
    assert campaign.tally.kills == 1


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_campaign_of_killed_nodes(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = Campaign(tmp_path, 1, monkeypatch)
    kill_nodes(campaign, nodes, 50)
    print(f"\ncampaign: Ray nodes: {campaign.tally}")
    # So many moments can't all have been between bodies.
    assert campaign.tally.lost
