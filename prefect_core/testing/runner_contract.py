"""The contract of task runners as a test suite: subclass `RunnerContract` and say how a runner is made.

    class TestMyRunner(RunnerContract):
        @pytest.fixture
        def make_runner(self):
            return lambda: MyTaskRunner(workers=2)

Every test runs flows through the public face and looks at what they return and what the history holds. What a runner declares it can't
do (`shares_memory`, `runs_on_submit`, `can_cancel_running`, `can_kill`) is tested for what it then promises instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_core.testing.contract.course import Course
from prefect_core.testing.contract.held import Held
from prefect_core.testing.contract.inputs import Inputs
from prefect_core.testing.contract.journal import Journal, MakeRunner
from prefect_core.testing.contract.kept import Kept
from prefect_core.testing.contract.limits import Limits
from prefect_core.testing.contract.maps import Maps
from prefect_core.testing.contract.nesting import Nesting
from prefect_core.testing.contract.pauses import Pauses
from prefect_core.testing.contract.sameness import Sameness
from prefect_core.testing.contract.surroundings import Surroundings
from prefect_core.testing.contract.values import Values
from prefect_core.testing.surroundings import Harness, harness

__all__ = ["Journal", "MakeRunner", "RunnerContract"]


class RunnerContract(Values, Inputs, Held, Kept, Maps, Nesting, Course, Pauses, Surroundings, Sameness, Limits):
    """What every task runner does. A subclass defines the fixture `make_runner`: a callable that makes a fresh runner."""

    @pytest.fixture(autouse=True)
    def world(self) -> Iterator[Harness]:
        """A throw-away home and a history in memory around each test."""
        with harness() as world:
            yield world

    @pytest.fixture
    def journal(self, tmp_path: Path) -> Journal:
        """A file in which bodies note what they do."""
        return Journal(tmp_path / "journal")
