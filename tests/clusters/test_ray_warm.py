"""A Ray that is kept warm between flow runs, and one that is told its address."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from prefect_core import flow
from prefect_core.task_runners import RayTaskRunner
from prefect_runners import ray_cluster
from tests.clusters.existing import not_of_ray
from tests.clusters.ray_bodies import is_alive, our_threads, process

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def this_ray() -> Any:
    return ray_cluster.connection(ray)


@pytest.fixture
def warm() -> Iterator[None]:
    yield
    ray_cluster.close_warm_ray()
    assert not ray.is_initialized()
    assert our_threads() == []


def test_flow_runs_with_the_same_settings_share_a_warm_ray_and_others_end_it(
    warm: None, ray_options: dict[str, Any]
) -> None:
    def flow_on(runner: RayTaskRunner) -> Any:
        @flow(task_runner=runner)
        def run() -> tuple[Any, int]:
            return this_ray(), process.submit().result()

        return run

    @flow(task_runner=RayTaskRunner(init_kwargs=ray_options, keep_warm=True))
    def outer() -> list[Any]:
        kept = RayTaskRunner(init_kwargs=ray_options, keep_warm=True)
        return [flow_on(kept)(), flow_on(kept).submit().result(), (this_ray(), process.submit().result())]

    rays = {which for which, _ in outer()}
    assert len(rays) == 1
    assert ray.is_initialized()
    # One that does not ask for it uses what is there, and leaves it.
    rays.add(flow_on(RayTaskRunner(init_kwargs=ray_options))()[0])
    assert rays == {this_ray()}
    other, pid = flow_on(RayTaskRunner(init_kwargs=ray_options | {"num_cpus": 1}))()
    assert other not in rays
    assert not ray.is_initialized()
    assert not is_alive(pid)


def test_a_warm_ray_that_its_user_replaced_is_borrowed(warm: None, ray_options: dict[str, Any]) -> None:
    @flow(task_runner=RayTaskRunner(init_kwargs=ray_options, keep_warm=True))
    def run() -> Any:
        process.submit().result()
        return this_ray()

    first = run()
    ray.shutdown()
    ray.init(address="local", **ray_options)
    assert run() == this_ray() != first
    ray_cluster.close_warm_ray()
    assert ray.is_initialized()
    ray.shutdown()


def test_a_warm_ray_ends_with_the_process(ray_options: dict[str, Any]) -> None:
    program = (
        "from prefect_core import flow\n"
        "from prefect_core.task_runners import RayTaskRunner\n"
        "from tests.clusters.ray_bodies import process\n"
        f"@flow(task_runner=RayTaskRunner(init_kwargs={ray_options!r}, keep_warm=True))\n"
        "def run():\n"
        "    return process.submit().result()\n"
        "print(run(), flush=True)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, env=not_of_ray()
    )
    assert ended.returncode == 0, ended.stderr
    assert not is_alive(int(ended.stdout.split()[0]))


def test_keep_warm_and_an_address_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="Cannot specify `keep_warm` and `address`"):
        RayTaskRunner("auto", keep_warm=True)


def test_a_ray_that_is_told_its_address_is_reached_there(ray_options: dict[str, Any]) -> None:
    @flow(task_runner=RayTaskRunner(init_kwargs=ray_options | {"_node_ip_address": "127.0.0.2"}))
    def run() -> str:
        process.submit().result()
        return ray.get_runtime_context().gcs_address

    assert run().startswith("127.0.0.2:")
