"""The runner keeps the contract of all runners."""

import pytest
from threads_runner import ThreadsTaskRunner

from prefect_core.testing.runner_contract import MakeRunner, RunnerContract


class TestThreadsTaskRunner(RunnerContract):
    @pytest.fixture(params=[1, 4])
    def make_runner(self, request: pytest.FixtureRequest) -> MakeRunner:
        return lambda: ThreadsTaskRunner(request.param)
