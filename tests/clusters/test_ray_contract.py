"""The Ray runner keeps the runner contract: on a Ray of its own, and on one that is there."""

from __future__ import annotations

import pytest

from prefect_core.task_runners import RayTaskRunner
from prefect_core.testing.runner_contract import MakeRunner, RunnerContract

pytestmark = pytest.mark.slow


class TestOwnRay(RunnerContract):
    @pytest.fixture
    def make_runner(self, own: None) -> MakeRunner:
        return RayTaskRunner


class TestInitialisedRayOfOneProcessor(RunnerContract):
    @pytest.fixture
    def make_runner(self, of_one_processor: None) -> MakeRunner:
        return lambda: RayTaskRunner(address="auto")
