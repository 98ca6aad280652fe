"""A Ray that a runner started ends with the last flow run that uses it."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import ray

from prefect_core import flow
from prefect_core.task_runners import RayTaskRunner
from tests.clusters.ray_bodies import our_threads, process


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
