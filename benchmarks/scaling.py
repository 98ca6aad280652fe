"""Does a task among a hundred thousand cost more than one among a thousand?"""

from __future__ import annotations

from benchmarks.measure import Figure, compare, throwaway_home

FEW, MANY = 1_000, 100_000
REPEATS = 3


def no_op(x: int) -> int:
    return x


def measure() -> list[Figure]:
    with throwaway_home():
        from prefect_core import flow, task

        submitted = task(no_op)

        @flow
        def run(count: int) -> int:
            return sum(future.result() for future in [submitted.submit(i) for i in range(count)])

        def many() -> None:
            run(MANY)

        def few() -> None:
            # As many tasks in all, so that both sides are timed over the same length.
            for _ in range(MANY // FEW):
                run(FEW)

        return [compare(f"a task among {MANY:,}; bare: among {FEW:,}", many, few, MANY, 1.2, REPEATS)]
