"""A pause whose asker gave up while the process of the run was already about it: it is taken back."""

from __future__ import annotations

import threading
import time

import pytest

from prefect_core import context, flow, task
from prefect_core.control import asking
from prefect_core.engine import gates
from prefect_core.engine.pausing_asked import WITHDRAWN
from prefect_core.history.requests import OVER
from tests.unit.recorded import Recorded

LONG_SECONDS = 60.0
SHARED: list[Recorded] = []


@task
def one():
    return 1


@flow
def asked(is_suspended):
    store, around = SHARED[0].store, context.current()
    run = around.flow_run.key
    with gates.about_to_begin(around):
        # The pause waits for what is about to begin.
        request = asking.ask(store, run, "pause", {"run": run, "timeout_seconds": None, "reschedule": is_suspended})
        until = time.monotonic() + LONG_SECONDS
        while around.gate is None and time.monotonic() < until:
            threading.Event().wait(0.001)
        assert store.control().answer(request.key, {OVER: asking.WITHDRAWN})
    while around.gate is not None and not around.gate.done():
        threading.Event().wait(0.001)
    return one()


@pytest.mark.parametrize("is_suspended", [False, True], ids=["held", "suspended"])
def test_a_pause_that_nobody_waits_for_any_more_is_taken_back(recorded: Recorded, is_suspended: bool) -> None:
    SHARED[:] = [recorded]
    assert asked(is_suspended) == 1
    [row] = recorded.flow_runs()
    assert recorded.states_of(row) == ["Pending", "Running", "Paused", "Running", "Completed"]
    assert recorded.store.states(row.key)[3].message == WITHDRAWN
    [pause] = recorded.store.control().pauses(row.key)
    assert (pause.is_open, pause.has_fired) == (not is_suspended, False)
