"""What does a task cost in a worker process? Against a bare process pool of the same size with the same function."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from benchmarks.measure import Figure, check_recorded, compare, throwaway_home

COUNT = 2_000
WORKERS = 2
REPEATS = 5


def no_op(x: int) -> int:
    return x


def measure() -> list[Figure]:
    with throwaway_home(), ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        from prefect_core import flow, task

        submitted = task(no_op)
        list(pool.map(no_op, range(WORKERS)))

        @flow(task_runner=f"processes:{WORKERS}")
        def ours() -> int:
            return sum(future.result() for future in [submitted.submit(i) for i in range(COUNT)])

        def bare() -> int:
            return sum(future.result() for future in [pool.submit(no_op, i) for i in range(COUNT)])

        # Ours starts and stops its workers in every run; the bare pool keeps its own.
        figure = compare(
            f"{COUNT:,} no-op tasks on {WORKERS} processes, their start included", ours, bare, COUNT, None, REPEATS
        )
        check_recorded(COUNT * (REPEATS + 1))
    return [figure]
