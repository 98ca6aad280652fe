"""Runners on Dask that start and stop, many times, leave nothing behind: here or on the cluster."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from prefect_core.task_runners import DaskTaskRunner
from tests.clusters.existing import ExistingCluster
from tests.leaks import assert_nothing_is_left


@pytest.fixture(autouse=True)
def own_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder of this test alone: others make theirs meanwhile."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


def borrow(cluster: ExistingCluster, times: int) -> str:
    assert cluster.scheduler is not None
    pids = [cluster.scheduler.pid, *(worker.pid for worker in cluster.workers)]
    workers = list((cluster.folder / "dask-scratch-space").glob("worker-*[!k]"))
    return assert_nothing_is_left(lambda: DaskTaskRunner(address=cluster.address), times, pids, workers)


def start_own(times: int) -> str:
    options = {"n_workers": 1, "threads_per_worker": 1}
    return assert_nothing_is_left(lambda: DaskTaskRunner(cluster_kwargs=options), times)


def test_a_borrowed_cluster_and_whoever_borrows_it_are_left_as_they_were(fragile: ExistingCluster) -> None:
    borrow(fragile, 20)


def test_own_clusters_leave_nothing(tmp_path: Path) -> None:
    start_own(1)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_campaign_of_borrowings(fragile: ExistingCluster) -> None:
    print(f"\ncampaign: Dask borrowed: {borrow(fragile, 1000)}")


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_campaign_of_own_clusters() -> None:
    print(f"\ncampaign: Dask of one's own: {start_own(20)}")
