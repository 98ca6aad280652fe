"""The public test kit: for tests of flows and tasks, and of task runners that somebody else writes.

harness          a throw-away home and history around a test
FakeClock        a clock that moves when the test says so
ListRecorder     a recorder that keeps what it is told in a list
drive            the third driver: answers each step of a lifecycle itself, with a fault wherever the test wants one
runner_contract  the suite that every task runner passes; the only module here that needs pytest
"""

from __future__ import annotations

from prefect_core.testing.fake_clock import FakeClock
from prefect_core.testing.list_recorder import ListRecorder
from prefect_core.testing.surroundings import Harness, harness

__all__ = ["FakeClock", "Harness", "ListRecorder", "harness"]
