"""The model over both histories, on threads of one process whose lease is taken."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model import worlds
from tests.model.machine import Model


class InMemory(Model):
    make_world = staticmethod(partial(worlds.Threads, make_store=worlds.in_memory))


class InAFile(Model):
    make_world = staticmethod(partial(worlds.Threads, make_store=worlds.in_a_file))


SAMPLE = settings(
    max_examples=15,
    stateful_step_count=12,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
CAMPAIGN = settings(SAMPLE, max_examples=400, stateful_step_count=25, derandomize=False)
MACHINES = pytest.mark.parametrize("machine", [InMemory, InAFile])


@MACHINES
def test_whatever_is_done_to_a_run_the_invariants_hold(machine: type[Model]) -> None:
    run_state_machine_as_test(machine, settings=SAMPLE)


@pytest.mark.faults
@pytest.mark.timeout(3600)
@MACHINES
def test_campaign_of_all_that_may_be_done_to_a_run(machine: type[Model]) -> None:
    run_state_machine_as_test(machine, settings=CAMPAIGN)
