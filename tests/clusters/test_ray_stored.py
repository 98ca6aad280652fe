"""Large stored values on Ray, and between Ray and Dask: the flow's process sees none that nobody asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prefect_core import flow, settings, task
from prefect_core.results import load_result
from prefect_core.task_runners import DaskTaskRunner
from tests.clusters import dask_bodies as bodies
from tests.clusters.test_ray_values import own_megabytes

pytestmark = pytest.mark.usefixtures("borrowed")
stored = bodies.ones.with_options(persist_result=True)


def objects() -> list[Path]:
    return [path for path in (settings.current().home / "storage").rglob("*") if path.is_file()]


def test_workers_store_what_they_make_and_the_flow_s_process_holds_nothing() -> None:
    @task(persist_result=True)
    def more(array: Any) -> Any:
        return array + 1

    @flow(task_runner="ray")
    def run() -> tuple[float, float, Any]:
        bodies.total.submit(stored.submit(1)).result()
        before = own_megabytes()
        made = [more.submit(stored.submit(8)) for _ in range(12)]
        total = sum(bodies.total.submit(one).result() for one in made)
        return total, own_megabytes() - before, made[3]

    total, growth, state = run(return_state=True).data
    assert total == 12 * (16 << 17)
    assert growth < 48
    assert len(objects()) == 25
    loaded = load_result(state.state_details.task_run_id)
    assert loaded.sum() == state.result().sum() == 16 << 17
    assert loaded.flags.writeable


def test_a_stored_value_goes_by_its_place_between_dask_and_ray(processes: Any) -> None:
    on_ray = bodies.total.with_options(task_runner="ray")
    there, back = stored.with_options(task_runner="ray"), bodies.total
    grown: list[float] = []

    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> float:
        on_ray.submit(stored.submit(1)).result()
        back.submit(there.submit(1)).result()
        before = own_megabytes()
        totals = [on_ray.submit(stored.submit(16)) for _ in range(4)] + [
            back.submit(there.submit(16)) for _ in range(4)
        ]
        total = sum(one.result() for one in totals)
        grown.append(own_megabytes() - before)
        return total

    assert run() == 8 * (16 << 17)
    assert grown[0] < 48
