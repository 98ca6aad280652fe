"""Every runner that we have keeps the runner contract."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import loky
import pytest

from prefect_core.engine import taking_back
from prefect_core.task_runners import (
    ConcurrentTaskRunner,
    ExecutorTaskRunner,
    ProcessPoolTaskRunner,
    SequentialTaskRunner,
)
from prefect_core.testing.runner_contract import MakeRunner, RunnerContract
from tests.contract.holding import HoldingTaskRunner

pytestmark = pytest.mark.slow


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


class TestProcesses(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> MakeRunner:
        return lambda: ProcessPoolTaskRunner(2)


class TestOneProcess(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> MakeRunner:
        return lambda: ProcessPoolTaskRunner(1)


class TestRunnerThatHoldsValues(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> MakeRunner:
        return HoldingTaskRunner


# An executor is borrowed, so one serves all tests.


@pytest.fixture(scope="module")
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.fixture(scope="module")
def loky_processes() -> Iterator[Executor]:
    executor = loky.ProcessPoolExecutor(2)
    yield executor
    executor.shutdown()


class TestExecutorOfThreads(RunnerContract):
    @pytest.fixture
    def make_runner(self, threads: Executor) -> MakeRunner:
        return lambda: ExecutorTaskRunner(threads)


class TestExecutorOfOneThread(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> Iterator[MakeRunner]:
        with ThreadPoolExecutor(1) as executor:
            yield lambda: ExecutorTaskRunner(executor)


@pytest.fixture
def no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a pause that waits for what workers tell of beginnings never be accepted: those of a user's executor tell nothing."""
    monkeypatch.setattr(taking_back, "_NEWS_SECONDS", 3600.0)


@pytest.mark.usefixtures("no_news")
class TestExecutorOfProcesses(RunnerContract):
    @pytest.fixture
    def make_runner(self, processes: Executor) -> MakeRunner:
        return lambda: ExecutorTaskRunner(processes)


@pytest.mark.usefixtures("no_news")
class TestExecutorOfLoky(RunnerContract):
    @pytest.fixture
    def make_runner(self, loky_processes: Executor) -> MakeRunner:
        return lambda: ExecutorTaskRunner(loky_processes)
