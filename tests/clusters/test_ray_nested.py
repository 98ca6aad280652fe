"""What bodies on a Ray of one processor wait for runs, though they hold that processor."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from prefect_core import flow, task
from prefect_core.testing.contract.journal import Journal
from tests.clusters.ray_bodies import hold, process

pytestmark = pytest.mark.slow


@task
def ask_inside(count: int) -> tuple[int, set[int]]:
    """Run tasks in this very worker."""
    return os.getpid(), {future.result() for future in [process.submit() for _ in range(count)]}


@task
def ask_beside(count: int) -> tuple[int, set[int]]:
    """Run tasks on the Ray around this one."""

    @flow(task_runner="ray")
    def inner() -> set[int]:
        return {future.result() for future in [process.submit() for _ in range(count)]}

    return os.getpid(), inner()


@task
async def ask_beside_async(count: int) -> tuple[int, set[int]]:
    @flow(task_runner="ray")
    async def inner() -> set[int]:
        return {future.result() for future in [process.submit() for _ in range(count)]}

    return os.getpid(), await inner()


@task
def ask_deeper(count: int) -> Any:
    """Have a body in this worker do so, at which the one that holds the processor waits."""
    return ask_beside.submit(count).result()


@pytest.mark.usefixtures("of_one_processor")
class TestOneProcessor:
    def test_what_a_body_submits_runs_in_its_own_worker(self) -> None:
        @flow(task_runner="ray")
        def run() -> Any:
            return ask_inside.submit(3).result(30)

        own, asked = run()
        assert asked == {own}

    @pytest.mark.parametrize("body", [ask_beside, ask_beside_async, ask_deeper], ids=lambda body: body.name)
    def test_a_flow_in_a_body_gets_the_processor_that_the_body_holds_while_it_waits(self, body: Any) -> None:
        @flow(task_runner="ray")
        def run() -> Any:
            return body.submit(3).result(30)

        own, asked = run()
        assert own not in asked

    def test_a_wait_inside_ends_at_its_own_limit_and_a_body_at_its_deadline(self, journal: Journal) -> None:
        @task(timeout_seconds=2)
        def impatient() -> None:
            @flow(task_runner="ray")
            def inner() -> None:
                held = hold.submit(journal)
                begun = time.monotonic()
                assert held.wait(0.5) is None
                journal.note(f"waited {time.monotonic() - begun:.1f}")
                held.wait()

            inner()

        @flow(task_runner="ray")
        def run() -> Any:
            return impatient.submit().wait(30)

        state = run(return_state=True).data
        assert state.name == "TimedOut"
        waited = next(line for line in journal.lines() if line.startswith("waited"))
        assert 0.5 <= float(waited.split()[1]) < 1.5
        journal.note("go")
