"""The Ray runner keeps the runner contract: on a Ray of its own, and on one that is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import ray

from prefect_core.task_runners import RayTaskRunner
from prefect_core.testing.runner_contract import MakeRunner, RunnerContract
from prefect_runners import ray_cluster


@pytest.fixture(scope="class")
def own(ray_options: dict[str, Any]) -> Iterator[None]:
    """Keep what the first runner would start, so that each flow run need not start its own."""
    lease = ray_cluster.connect(None, ray_options)
    yield
    lease.give_back()
    assert not ray.is_initialized()


@pytest.fixture(scope="class")
def initialised(ray_options: dict[str, Any]) -> Iterator[None]:
    """Have a Ray that no runner started."""
    ray.init(**ray_options | {"num_cpus": 1})
    yield
    assert ray.is_initialized()
    ray.shutdown()


class TestOwnRay(RunnerContract):
    @pytest.fixture
    def make_runner(self, own: None) -> MakeRunner:
        return RayTaskRunner


class TestInitialisedRayOfOneProcessor(RunnerContract):
    @pytest.fixture
    def make_runner(self, initialised: None) -> MakeRunner:
        return lambda: RayTaskRunner(address="auto")
