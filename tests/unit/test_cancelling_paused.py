"""Cancelling flow runs that are paused: what waits at the gate is let go, wherever it waits."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import pytest

from prefect_core import cancel_flow_run, flow, pause_flow_run, runtime, task
from prefect_core.states import State

LONG = 60.0
SOON = 15.0


def cancelled_when_paused(recorded: Any, run_id: Any, tasks: int = 0) -> None:
    """Cancel the run from another thread once it is paused, with so many task runs in it."""

    def work() -> None:
        until = time.monotonic() + LONG
        while time.monotonic() < until:
            is_paused = recorded.store.flow_run(str(run_id)).state_type == "PAUSED"
            if is_paused and len(recorded.task_runs("body")) == tasks:
                break
            time.sleep(0.01)
        cancel_flow_run(run_id, LONG)

    threading.Thread(target=work, daemon=True).start()


@pytest.mark.parametrize("is_submitted", [False, True], ids=["main thread", "other thread"])
def test_a_body_that_waits_in_its_pause(recorded: Any, is_submitted: bool) -> None:
    @flow
    def paused() -> None:
        cancelled_when_paused(recorded, runtime.flow_run.id)
        pause_flow_run(timeout=LONG)
        raise AssertionError("It went on.")

    @flow
    def around() -> State:
        future = paused.submit()
        future.wait()
        return future.state

    begun = time.monotonic()
    state = (around if is_submitted else paused)(return_state=True)
    assert (state.name, state.type.value) == ("Cancelled", "CANCELLED")
    assert time.monotonic() - begun < SOON


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_body_that_waits_in_its_pause(recorded: Any, backend: str) -> None:
    @flow
    async def paused() -> None:
        cancelled_when_paused(recorded, runtime.flow_run.id)
        await pause_flow_run(timeout=LONG)
        raise AssertionError("It went on.")

    async def call() -> State:
        return await paused(return_state=True)

    begun = time.monotonic()
    assert anyio.run(call, backend=backend).name == "Cancelled"
    assert time.monotonic() - begun < SOON


@pytest.mark.parametrize("way", ["submitted", "called"])
def test_tasks_that_wait_at_the_gate(recorded: Any, way: str) -> None:
    begun_bodies: list[int] = []

    @task
    def body(number: int) -> None:
        begun_bodies.append(number)

    @flow
    def paused() -> None:
        run_id = runtime.flow_run.id
        cancelled_when_paused(recorded, run_id, 1 if way == "called" else 3)
        pause_flow_run(timeout=LONG, flow_run_id=run_id)
        if way == "called":
            body(1)
        else:
            [future.wait() for future in body.map(range(3))]

    begun = time.monotonic()
    assert paused(return_state=True).name == "Cancelled"
    assert time.monotonic() - begun < SOON
    assert begun_bodies == []
    assert {row.state_type for row in recorded.task_runs()} == {"CANCELLED"}
