"""The runner contract itself: a small runner of somebody else's passes it, and runners with one fault each do not."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from prefect_core.engine import remote
from prefect_core.payload import Payload, Receipt
from prefect_core.task_runners import TaskRunner
from prefect_core.testing.runner_contract import MakeRunner, RunnerContract

ROOT = Path(__file__).parents[2]


class ThreadEachTaskRunner(TaskRunner):
    """Runs each attempt on a thread of its own."""

    def duplicate(self) -> ThreadEachTaskRunner:
        return ThreadEachTaskRunner()

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        threading.Thread(target=lambda: done(remote.run_attempt(payload)), daemon=True).start()


class TestRunnerOfSomebodyElse(RunnerContract):
    @pytest.fixture
    def make_runner(self) -> MakeRunner:
        return ThreadEachTaskRunner


BROKEN = """
import pytest
from prefect_core.engine import remote
from prefect_core.task_runners import TaskRunner
from prefect_core.testing.runner_contract import RunnerContract


class Broken(TaskRunner):
    def duplicate(self):
        return type(self)()

    def submit(self, payload, done):
        done(remote.run_attempt(payload))


class ForgetsTheError(Broken):
    runs_on_submit = True

    def submit(self, payload, done):
        receipt = remote.run_attempt(payload)
        if receipt.error is not None:
            receipt.error = ValueError("something went wrong")
        done(receipt)


class AnswersTwice(Broken):
    runs_on_submit = True

    def submit(self, payload, done):
        receipt = remote.run_attempt(payload)
        done(receipt)
        done(receipt)


class RunsTwice(Broken):
    runs_on_submit = True

    def submit(self, payload, done):
        remote.run_attempt(payload)
        done(remote.run_attempt(payload))


class SaysItSharesNoMemory(Broken):
    runs_on_submit = True
    shares_memory = False


class HasNoOptions(Broken):
    runs_on_submit = True

    def __eq__(self, other):
        return self is other


class Retries(Broken):
    runs_on_submit = True

    def submit(self, payload, done):
        receipt = remote.run_attempt(payload)
        if receipt.error is not None:
            receipt = remote.run_attempt(payload)
        done(receipt)


for broken in (ForgetsTheError, AnswersTwice, RunsTwice, SaysItSharesNoMemory, HasNoOptions, Retries):

    class Suite(RunnerContract):
        runner_class = broken

        @pytest.fixture
        def make_runner(self):
            return self.runner_class

    Suite.__name__ = Suite.__qualname__ = f"Test{broken.__name__}"
    globals()[Suite.__name__] = Suite

del Suite
"""
# Those that end soon on a broken runner, too.
QUICK = "equal_options or share_memory or answers_each_payload_once or tried_again or traceback"
FAULTS = re.findall(r"^class (\w+)\(Broken\)", BROKEN, re.MULTILINE)


def test_a_runner_with_a_fault_does_not_pass(tmp_path: Path) -> None:
    suite = tmp_path / "test_broken.py"
    suite.write_text(BROKEN)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=no",
        f"--rootdir={tmp_path}",
        "-k",
        QUICK,
        suite,
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=55, check=False)
    failed = set(re.findall(r"(?:FAILED|ERROR) test_broken.py::Test(\w+)::", ended.stdout))
    assert failed == set(FAULTS), ended.stdout[-3000:]
