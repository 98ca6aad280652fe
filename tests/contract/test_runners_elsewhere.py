"""The runners whose bodies run in other processes, or on somebody else's threads, keep the runner contract."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from prefect_core.task_runners import ExecutorTaskRunner, ProcessPoolTaskRunner
from prefect_core.testing.runner_contract import MakeRunner, RunnerContract
from tests.contract.holding import HoldingTaskRunner


class TestOneProcess(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> MakeRunner:
        return lambda: ProcessPoolTaskRunner(1)


class TestExecutorOfOneThread(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> Iterator[MakeRunner]:
        with ThreadPoolExecutor(1) as executor:
            yield lambda: ExecutorTaskRunner(executor)


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


class TestExecutorOfProcesses(RunnerContract):
    @pytest.fixture
    def make_runner(self, processes: ProcessPoolExecutor) -> MakeRunner:
        return lambda: ExecutorTaskRunner(processes)


class TestRunnerThatHoldsValues(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> MakeRunner:
        return HoldingTaskRunner
