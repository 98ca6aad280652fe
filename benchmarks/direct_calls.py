"""What does a task cost that is called directly? Against a bare thread pool's submit and result of the same function."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from benchmarks.measure import Figure, check_recorded, compare, throwaway_home

COUNT = 20_000
REPEATS = 5


def no_op(x: int) -> int:
    return x


def bare() -> None:
    with ThreadPoolExecutor() as pool:
        for future in [pool.submit(no_op, i) for i in range(COUNT)]:
            future.result()


def measure() -> list[Figure]:
    with throwaway_home():
        from prefect_core import flow, task

        called = task(no_op)

        @flow
        def ours() -> None:
            for i in range(COUNT):
                called(i)

        figure = compare(f"{COUNT:,} no-op tasks called directly", ours, bare, COUNT, 3, REPEATS)
        check_recorded(COUNT * (REPEATS + 1))
    return [figure]
