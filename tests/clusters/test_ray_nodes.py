"""Nodes of a Ray that die: another one costs what ran and lay there, and the head, or our own, ends the flow run's work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from prefect_core import flow, history, task
from prefect_core.states import State
from prefect_core.task_runners import RayTaskRunner, remote_options
from prefect_core.testing.contract.journal import Journal
from tests.clusters.existing_ray import SOON_MISSED

pytestmark = pytest.mark.slow

FAR = {"resources": {"far": 1}, "num_cpus": 1}


@task
def hold(journal: Journal) -> int:
    journal.note("held")
    if journal.lines().count("held") == 1:
        journal.wait_for("never", 60)
    return 1


@task
def make() -> Any:
    return np.ones(1 << 18)


@task
def total(array: Any) -> float:
    return float(array.sum())


class Nodes:
    """A Ray whose head runs no task, with one further node at a time."""

    def __init__(self, options: dict[str, Any]) -> None:
        # The temporary folder of another Ray of this process may not be used again.
        self._node = {"num_cpus": 1, "object_store_memory": 200 << 20, "resources": {"far": 1}}
        head = {"num_cpus": 1, "object_store_memory": 200 << 20, "_system_config": SOON_MISSED}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self._options = options
        self._far = self.cluster.add_node(**self._node)

    def replace(self) -> None:
        self.cluster.remove_node(self._far, allow_graceful=False)
        self._far = self.cluster.add_node(**self._node)


@pytest.fixture(scope="module")
def nodes(ray_options: dict[str, Any]) -> Iterator[Nodes]:
    nodes = Nodes(ray_options)
    yield nodes
    nodes.cluster.shutdown()


def test_a_dead_node_costs_what_ran_and_what_lay_there_and_nothing_else(nodes: Nodes, journal: Journal) -> None:
    @task
    def make_far() -> Any:
        journal.note("made")
        return np.ones(1 << 18)

    @flow(task_runner=RayTaskRunner(nodes.cluster.address, {"log_to_driver": False}))
    def run() -> list[State | None]:
        near = total.submit(make.submit())
        near.wait()
        with remote_options(**FAR):
            far = make_far.submit()
            far.wait()
            held = hold.with_options(retries=1).submit(journal)
        journal.wait_for("held")
        nodes.replace()
        return [held.wait(), near.wait(), total.submit(far).wait(30)]

    held, near, lost = run(return_state=True).data
    assert not ray.is_initialized()
    assert (held.result(), near.result()) == (1, float(1 << 18))
    store = history.open_store()
    row = store.task_run("hold-0")
    assert [attempt.state_name for attempt in store.attempts(row.key)] == ["AwaitingRetry", "Completed"]
    assert row.run_count == journal.lines().count("held") == 2
    assert any("Ray lost the task: NodeDiedError" in (state.message or "") for state in store.states(row.key))
    # What needs the lost value has it made again, by an attempt of its own run.
    assert lost.result() == float(1 << 18)
    far_row = store.task_run("make_far-0")
    assert far_row.run_count == journal.lines().count("made") == 2


def test_a_stored_value_that_lay_on_a_dead_node_is_read_from_the_storage(nodes: Nodes, journal: Journal) -> None:
    @task(persist_result=True)
    def make_far() -> Any:
        journal.note("made")
        return np.ones(1 << 18)

    @flow(task_runner=RayTaskRunner(nodes.cluster.address, {"log_to_driver": False}))
    def run() -> list[float]:
        with remote_options(**FAR):
            far = make_far.submit()
            far.wait()
        nodes.replace()
        return [total.submit(far).result(30), float(far.result().sum())]

    assert run() == [float(1 << 18)] * 2
    assert journal.lines() == ["made"]


PROGRAM = Path(__file__).with_name("ray_head_killed.py")


VICTIMS = ["gcs_server", "raylet/raylet"]
LIMIT_SECONDS = 90
"""Sooner than what the programs wait for comes to its end."""


@pytest.fixture(scope="module")
def ended() -> dict[str, subprocess.CompletedProcess[str]]:
    """How programs end that lose one or the other, all at the same time: most of it is waiting."""

    def end(victim: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, PROGRAM, victim]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)

    with ThreadPoolExecutor(len(VICTIMS)) as threads:
        return dict(zip(VICTIMS, threads.map(end, VICTIMS), strict=True))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("victim", VICTIMS)
def test_a_dead_head_or_own_node_ends_all_that_is_open_and_hangs_nowhere(
    victim: str, ended: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    lines = [line for line in ended[victim].stdout.splitlines() if line.startswith("ended:")]
    assert len(lines) == 3, ended[victim].stderr
    assert "Crashed" in lines[0]
    assert "Ray" in lines[0]
    assert "Crashed" in lines[1]
    assert "Crashed" in lines[2]
    assert ended[victim].returncode == 0
