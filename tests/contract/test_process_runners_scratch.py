from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from prefect_core.task_runners import ExecutorTaskRunner, ProcessPoolTaskRunner
from prefect_core.testing.runner_contract import MakeRunner, RunnerContract


class TestP1(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> MakeRunner:
        return lambda: ProcessPoolTaskRunner(1)

class TestP2(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> MakeRunner:
        return lambda: ProcessPoolTaskRunner(2)

class TestT1(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> MakeRunner:
        with ThreadPoolExecutor(1) as ex:
            yield lambda: ExecutorTaskRunner(ex)

class TestPP(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> MakeRunner:
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as ex:
            yield lambda: ExecutorTaskRunner(ex)
