"""What does a task cost on Ray? Against bare Ray: the same functions as Ray's own tasks, on the same local Ray in the same process."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks.graphs import nodes_of_tree
from benchmarks.measure import Figure, check_recorded, compare, growth, resident_mb, throwaway_home

COUNT = 2_000
NAPS = 100
NAP_SECONDS = 0.05
LENGTH = 500
LEAVES = 1_000
ARRAYS = 64
ARRAY_BYTES = 8 << 20
MOST_GROWTH_MB = 64
ITEMS = 20_000
REPEATS = 3
STARTS = 7
OPTIONS = {
    "num_cpus": 2,
    "include_dashboard": False,
    "log_to_driver": False,
    "logging_level": logging.ERROR,
    "object_store_memory": 2 << 30,
}


def no_op(x: int) -> int:
    return x


def add(x: int, y: int = 1) -> int:
    return x + y


def nap(x: int) -> int:
    time.sleep(NAP_SECONDS)
    return x


def make(x: int) -> Any:
    import numpy as np  # on the workers

    return np.full(ARRAY_BYTES // 8, x, dtype="int64")


def total(array: Any) -> int:
    return int(array.sum())


def tree_of(submit: Any) -> Any:
    level = [submit(i) for i in range(LEAVES)]
    while len(level) > 1:
        level = [submit(*level[i : i + 2]) for i in range(0, len(level), 2)]
    return level[0]


def chain_of(submit: Any) -> Any:
    link = submit(0)
    for _ in range(LENGTH - 1):
        link = submit(link)
    return link


def on_one_ray() -> list[Figure]:
    import ray

    from prefect_core import flow, task

    def figure(what: str, function: Any, work: Any, count: int, limit: float) -> Figure:
        ours_task, bare_task = task(function), ray.remote(function)

        @flow(task_runner="ray")
        def ours() -> Any:
            return work(ours_task.submit, lambda futures: [future.result() for future in futures])

        def bare() -> Any:
            return work(bare_task.remote, ray.get)

        return compare(what, ours, bare, count, limit, REPEATS)

    def fan(count: int) -> Any:
        return lambda submit, collect: sum(collect([submit(i) for i in range(count)]))

    figures = [
        figure(f"{COUNT:,} no-op tasks on Ray, results collected", no_op, fan(COUNT), COUNT, 1.1),
        figure(f"{NAPS} tasks of 50 ms on Ray (97 % of its throughput)", nap, fan(NAPS), NAPS, 1 / 0.97),
        figure(
            f"chain of {LENGTH} tasks on Ray",
            add,
            lambda submit, collect: collect([chain_of(submit)]),
            LENGTH,
            1.2,
        ),
        figure(
            f"binary tree over {LEAVES:,} leaves on Ray",
            add,
            lambda submit, collect: collect([tree_of(submit)]),
            nodes_of_tree(LEAVES),
            1.2,
        ),
    ]
    check_recorded((COUNT + NAPS + LENGTH + nodes_of_tree(LEAVES)) * (REPEATS + 1))
    return figures


def on_map() -> Figure:
    """Map over tiny items, which travel in chunks, where bare Ray has a task for each."""
    import ray

    from prefect_core import flow, task

    ours_task, bare_task = task(no_op), ray.remote(no_op)

    @flow(task_runner="ray")
    def ours() -> int:
        return sum(ours_task.map(range(ITEMS), chunk="auto").result())

    def bare() -> int:
        return sum(ray.get([bare_task.remote(i) for i in range(ITEMS)]))

    return compare(f"map over {ITEMS:,} no-op items on Ray, in chunks", ours, bare, ITEMS, 0.1, REPEATS)


def on_arrays() -> list[Figure]:
    """Make arrays in tasks and sum them in others; the second figure is what the flow's process grew by."""
    import ray

    from prefect_core import flow, task

    ours_make, ours_total = task(make), task(total)
    bare_make, bare_total = ray.remote(make), ray.remote(total)

    @flow(task_runner="ray")
    def ours() -> int:
        return sum(future.result() for future in [ours_total.submit(ours_make.submit(i)) for i in range(ARRAYS)])

    def bare() -> int:
        return sum(ray.get([bare_total.remote(bare_make.remote(i)) for i in range(ARRAYS)]))

    figures = [compare(f"{ARRAYS} arrays of 8 MB on Ray, made and summed", ours, bare, ARRAYS, 1.2, REPEATS)]
    before = resident_mb()
    ours()
    return [*figures, growth("growth of the flow's process by them", resident_mb() - before, MOST_GROWTH_MB)]


def on_starts(folder: str) -> Figure:
    """Start and stop a Ray for a flow with one task; the limit is bare Ray and 0.3 s."""
    import ray

    from prefect_core import flow, task
    from prefect_core.task_runners import RayTaskRunner

    ours_task = task(no_op)
    options = OPTIONS | {"_temp_dir": folder}

    @flow(task_runner=RayTaskRunner(init_kwargs=options))
    def ours() -> int:
        return ours_task.submit(1).result()

    def bare() -> None:
        ray.init(**options)
        ray.get(ray.remote(no_op).remote(1))
        ray.shutdown()

    figure = compare("a Ray of its own, started and stopped", ours, bare, 1_000, None, STARTS)
    return replace(figure, unit="ms", limit=1 + 300 / figure.bare)


def measure() -> Iterator[Figure]:
    import ray

    with throwaway_home(), tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(**OPTIONS, _temp_dir=folder)
        try:
            yield from on_one_ray()
            yield on_map()
            yield from on_arrays()
        finally:
            ray.shutdown()
        yield on_starts(folder)
