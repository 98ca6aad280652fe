"""Ctrl-C and deadlines reach what runs on Ray, and leave nothing running there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefect_core import flow, task
from prefect_core.states import State
from prefect_core.testing.contract.journal import Journal
from tests.clusters.existing import not_of_ray
from tests.clusters.existing_ray import ExistingRay
from tests.clusters.ray_bodies import is_alive, still_alive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
PROGRAM = """
from pathlib import Path
from prefect_core import flow
from prefect_core.task_runners import RayTaskRunner
from prefect_core.testing.contract.journal import Journal
from tests.clusters.ray_bodies import hold
runner = {runner}
@flow(task_runner=runner)
def run():
    for future in [hold.submit(Journal(Path({journal!r}))) for _ in range(6)]:
        future.result()
if __name__ == "__main__":
    run()
"""


def wait_for_bodies(journal: Journal, count: int, program: subprocess.Popen[str]) -> list[int]:
    deadline = time.monotonic() + 50
    while len(journal.lines()) < count:
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int(line) for line in journal.lines()[:count]]


def interrupted(runner: str, path: Path, strike: Callable[[int], object]) -> tuple[Journal, list[int]]:
    """Run a flow of six tasks, of which two run at once, and interrupt it; returns what bodies noted, and their processes."""
    journal = Journal(path / "journal")
    program = path / "program.py"
    program.write_text(PROGRAM.format(runner=runner, journal=str(path / "journal")))
    environment = {
        **not_of_ray(),
        "RAY_AUTH_MODE": "disabled",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PREFECT_CORE_CANCEL_GRACE_SECONDS": "0.1",
        "PREFECT_CORE_INTERRUPT_GRACE_SECONDS": "0.2",
    }
    started = subprocess.Popen(
        [sys.executable, program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    bodies = wait_for_bodies(journal, 2, started)
    strike(started.pid)
    _, errors = started.communicate(timeout=40)
    assert started.returncode in {130, -signal.SIGINT}, errors
    assert "Execution was aborted by an interrupt signal." in errors
    journal.note("go")
    return journal, bodies


def test_nothing_runs_on_a_borrowed_ray_after_ctrl_c(tmp_path: Path) -> None:
    with ExistingRay("--num-cpus=2") as existing:
        journal, bodies = interrupted(
            f"RayTaskRunner({existing.address!r})", tmp_path, lambda pid: os.kill(pid, signal.SIGINT)
        )
        assert still_alive(bodies) == []
        again = tmp_path / "again"
        again.mkdir()
        # Both processors are free again, for bodies of another program and no others.
        interrupted(f"RayTaskRunner({existing.address!r})", again, lambda pid: os.kill(pid, signal.SIGINT))
        assert journal.lines() == [*map(str, bodies), "go"]


def test_a_ray_of_its_own_ends_with_a_program_that_a_terminal_interrupts(
    tmp_path: Path, ray_options: dict[str, Any]
) -> None:
    # A terminal sends the signal to all processes of its foreground.
    journal, bodies = interrupted(
        f"RayTaskRunner(init_kwargs={ray_options!r})", tmp_path, lambda pid: os.killpg(pid, signal.SIGINT)
    )
    assert still_alive(bodies) == []
    assert journal.lines() == [*map(str, bodies), "go"]


@pytest.mark.usefixtures("borrowed")
class TestBorrowed:
    def test_a_task_timeout_reaches_the_body_which_may_tidy_up_in_its_process(self, journal: Journal) -> None:
        @task(timeout_seconds=0.5)
        def tidy() -> None:
            journal.note(str(os.getpid()))
            try:
                time.sleep(60)
            finally:
                journal.note("tidied up")

        @flow(task_runner="ray")
        def run() -> State | None:
            return tidy.submit().wait(30)

        state = run(return_state=True).data
        assert state.name == "TimedOut"
        assert journal.lines()[1:] == ["tidied up"]
        assert is_alive(int(journal.lines()[0]))
