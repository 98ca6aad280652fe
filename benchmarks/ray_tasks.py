"""What does a task cost on Ray? Against bare Ray: the same functions as Ray's own tasks, on the same local Ray in the same process."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, check_recorded, compare, throwaway_home

COUNT = 2_000
NAPS = 400
NAP_SECONDS = 0.05
LENGTH = 500
LEAVES = 1_000
ARRAYS = 64
ARRAY_BYTES = 8 << 20
MOST_GROWTH_MB = 64
REPEATS = 5
STARTS = 3


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


def nodes_of_tree() -> int:
    count, level = LEAVES, LEAVES
    while level > 1:
        level = (level + 1) // 2
        count += level
    return count


def chain_of(submit: Any) -> Any:
    link = submit(0)
    for _ in range(LENGTH - 1):
        link = submit(link)
    return link


def resident_mb() -> float:
    """Return the memory that is this process's own; what it shares with Ray's store is Ray's."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


def on_one_ray() -> list[Figure]:
    import ray

    from prefect_core import flow, task

    def figure(what: str, submit_bare: Any, function: Any, work: Any, count: int, limit: float) -> Figure:
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
        figure(f"{COUNT:,} no-op tasks on Ray, results collected", None, no_op, fan(COUNT), COUNT, 1.1),
        figure(f"{NAPS} tasks of 50 ms on Ray (97 % of its throughput)", None, nap, fan(NAPS), NAPS, 1 / 0.97),
        figure(
            f"chain of {LENGTH} tasks on Ray",
            None,
            add,
            lambda submit, collect: collect([chain_of(submit)]),
            LENGTH,
            1.2,
        ),
        figure(
            f"binary tree over {LEAVES:,} leaves on Ray",
            None,
            add,
            lambda submit, collect: collect([tree_of(submit)]),
            nodes_of_tree(),
            1.2,
        ),
    ]
    check_recorded((COUNT + NAPS + LENGTH + nodes_of_tree()) * (REPEATS + 1))
    return figures


def measure() -> list[Figure]:
    import ray

    options = {"num_cpus": 2, "include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    with throwaway_home(), tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(**options, object_store_memory=2 << 30, _temp_dir=folder)
        try:
            figures = on_one_ray()
        finally:
            ray.shutdown()
    return figures
