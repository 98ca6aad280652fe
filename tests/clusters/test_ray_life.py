"""A Ray that a runner started ends with the last flow run that uses it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import ray

from prefect_core import flow, task
from prefect_core.task_runners import RayTaskRunner
from prefect_core.testing.contract.journal import Journal


@task
def process() -> int:
    return os.getpid()


@task
def hold(journal: Journal) -> None:
    journal.note(str(os.getpid()))
    journal.wait_for("go", 60)
    journal.note("went on")


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False


def our_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("prefect-core-ray")]


@pytest.mark.parametrize("end", ["return", "raise"])
def test_a_ray_that_a_runner_started_ends_with_the_flow_run(ray_options: dict[str, Any], end: str) -> None:
    before = signal.getsignal(signal.SIGTERM)

    @flow(task_runner=RayTaskRunner(init_kwargs=ray_options))
    def run() -> int:
        pid = process.submit().result()
        assert ray.is_initialized()
        if end == "raise":
            raise KeyError(pid)
        return pid

    state = run(return_state=True)
    assert state.is_completed() == (end == "return")
    assert not ray.is_initialized()
    assert our_threads() == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_subflows_share_the_ray_of_their_parent_and_leave_it_up(ray_options: dict[str, Any]) -> None:
    runner = RayTaskRunner(init_kwargs=ray_options)

    @flow(task_runner=runner)
    def inner() -> int:
        return process.submit().result()

    @flow(task_runner=runner)
    def outer() -> int:
        inner()
        inner.submit().wait()
        return process.submit().result()

    assert outer() > 0
    assert not ray.is_initialized()
