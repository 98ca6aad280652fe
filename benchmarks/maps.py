"""What does a map over many elements cost, and does memory stay flat? Against bare Dask in chunks; windows by what the process grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import distributed
import numpy as np

from benchmarks.dask_tasks import SETTINGS, no_op
from benchmarks.measure import Figure, compare, growth, resident_mb, throwaway_home

ITEMS = 20_000
WINDOW = 1_000
CONCURRENT_ELEMENTS, DASK_ELEMENTS = 1_000_000, 100_000
MOST_GROWTH_MB = 50.0
STAGES = 100
STAGE_BYTES = 40 << 20
MOST_PIPELINE_MB = 64.0
REPEATS = 3
REST_SECONDS = 3.0
"""What it takes Dask to let go of as many tasks of its own."""


def start(number: int) -> Any:
    return np.full(STAGE_BYTES // 8, float(number))


def add_one(array: Any) -> Any:
    return array + 1


def first(array: Any) -> float:
    return float(array[0])


def chunks(client: Any, runner: Any) -> Figure:
    from prefect_core import flow, task

    ours_task = task(no_op)

    @flow(task_runner=runner)
    def ours() -> int:
        return sum(ours_task.map(range(ITEMS), chunk="auto").result())

    def bare() -> int:
        return sum(client.gather(client.map(no_op, range(ITEMS), pure=False)))

    what = f"map over {ITEMS:,} no-op items on Dask, in chunks"
    return compare(what, ours, bare, ITEMS, 0.1, REPEATS, REST_SECONDS)


def flat(what: str, runner: Any, elements: int) -> Figure:
    """Map over a generator, and see what the process grows by after the first tenth."""
    from prefect_core import flow, task

    ours_task = task(no_op)
    seen: list[float] = []

    def numbers() -> Iterator[int]:
        for number in range(elements):
            if number and not number % (elements // 10):
                seen.append(resident_mb())
            yield number

    @flow(task_runner=runner)
    def ours() -> int:
        return sum(future.result() for future in ours_task.map(numbers(), window=WINDOW))

    if ours() != elements * (elements - 1) // 2:
        raise AssertionError(f"The sum is wrong: {what}.")
    return growth(f"{elements:,} elements in a window of {WINDOW:,}, {what}", max(seen) - seen[0], MOST_GROWTH_MB)


def pipeline(runner: Any) -> Figure:
    """Pass an array through many tasks, and see what the flow's process grows by."""
    from prefect_core import flow, task

    ours_start, ours_next, ours_first = task(start), task(add_one), task(first)

    def run(stages: int) -> Callable[[], float]:
        @flow(task_runner=runner)
        def ours() -> float:
            made = ours_start.submit(1)
            for _ in range(stages - 1):
                made = ours_next.submit(made)
            return ours_first.submit(made).result()

        return ours

    run(3)()
    before = resident_mb()
    if run(STAGES)() != STAGES:
        raise AssertionError("The pipeline's end is wrong.")
    what = f"{STAGES * STAGE_BYTES / 1e9:.1f} GB between {STAGES} stages on Dask, the flow's process"
    return growth(what, resident_mb() - before, MOST_PIPELINE_MB)


def measure() -> Iterator[Figure]:
    from prefect_core.task_runners import DaskTaskRunner

    with throwaway_home():
        with (
            distributed.LocalCluster(**SETTINGS) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            runner = DaskTaskRunner(cluster=cluster)
            yield chunks(client, runner)
            yield pipeline(runner)
            yield flat("on Dask", runner, DASK_ELEMENTS)
        yield flat("on threads", "concurrent", CONCURRENT_ELEMENTS)
