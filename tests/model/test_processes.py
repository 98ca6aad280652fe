"""The model over the history in a file, in processes that are killed, or taken for dead while they live."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Model
from tests.model.processes import Processes
from tests.model.test_threads import CAMPAIGN, SAMPLE


class InProcesses(Model):
    make_world = staticmethod(Processes)


def test_whatever_is_done_to_processes_the_invariants_hold() -> None:
    run_state_machine_as_test(InProcesses, settings=settings(SAMPLE, max_examples=6))


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_campaign_of_all_that_may_be_done_to_processes() -> None:
    run_state_machine_as_test(InProcesses, settings=settings(CAMPAIGN, max_examples=150))
