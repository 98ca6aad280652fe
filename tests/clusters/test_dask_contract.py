"""The Dask runner keeps the runner contract: on workers that are processes, on threads, and on a cluster that it is told the address of."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_core.task_runners import DaskTaskRunner
from prefect_core.testing.runner_contract import MakeRunner, RunnerContract
from tests.clusters.existing import ExistingCluster

pytestmark = pytest.mark.slow


class TestProcesses(RunnerContract):
    @pytest.fixture
    def make_runner(self, processes: Any) -> MakeRunner:
        return lambda: DaskTaskRunner(cluster=processes)


class TestThreads(RunnerContract):
    @pytest.fixture
    def make_runner(self, threads: Any) -> MakeRunner:
        return lambda: DaskTaskRunner(cluster=threads)


class TestExisting(RunnerContract):
    @pytest.fixture
    def make_runner(self, existing: ExistingCluster) -> MakeRunner:
        return lambda: DaskTaskRunner(address=existing.address)
