"""What does a task cost that is submitted to the concurrent runner, its result collected? Against a bare thread pool."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.measure import Figure, check_recorded, compare, throwaway_home


def no_op(x: int) -> int:
    return x


def bare(count: int) -> Callable[[], None]:
    def run() -> None:
        with ThreadPoolExecutor() as pool:
            for future in [pool.submit(no_op, i) for i in range(count)]:
                future.result()

    return run


def measure(count: int = 10_000, repeats: int = 5) -> list[Figure]:
    with throwaway_home():
        from prefect_core import flow, task

        submitted = task(no_op)

        @flow
        def ours() -> int:
            return sum(future.result() for future in [submitted.submit(i) for i in range(count)])

        figure = compare(f"{count:,} no-op tasks submitted, results collected", ours, bare(count), count, 5, repeats)
        check_recorded(count * (repeats + 1))
    return [figure]
