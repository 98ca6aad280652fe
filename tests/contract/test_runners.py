"""Every runner that we have keeps the runner contract."""

from __future__ import annotations

import pytest

from prefect_core.task_runners import ConcurrentTaskRunner, SequentialTaskRunner
from prefect_core.testing.runner_contract import MakeRunner, RunnerContract


class TestSequential(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> MakeRunner:
        return SequentialTaskRunner


class TestConcurrent(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> MakeRunner:
        return ConcurrentTaskRunner


class TestConcurrentWithOneWorker(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> MakeRunner:
        return lambda: ConcurrentTaskRunner(1)


class TestConcurrentWithEightWorkers(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> MakeRunner:
        return lambda: ConcurrentTaskRunner(8)
