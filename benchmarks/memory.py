"""What stays in memory of a finished task whose future is held?"""

from __future__ import annotations

import gc
import tracemalloc

from benchmarks.measure import Figure, throwaway_home

COUNT = 100_000
LIMIT_BYTES = 1536


def no_op(x: int) -> int:
    return x


def measure() -> list[Figure]:
    with throwaway_home():
        from prefect_core import flow, history, task

        submitted = task(no_op)
        kept: list[object] = []

        @flow
        def run(count: int) -> None:
            futures = [submitted.submit(i) for i in range(count)]
            for future in futures:
                future.result()
            kept.append(futures)

        run(1_000)
        kept.clear()
        history.current().flush()
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        run(COUNT)
        history.current().flush()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    each = (after - before) / COUNT
    ratio = each / LIMIT_BYTES
    return [
        Figure(
            f"kept for each of {COUNT:,} finished tasks; bare: 1.5 KiB",
            each,
            LIMIT_BYTES,
            ratio,
            (ratio, ratio),
            1,
            "bytes",
        )
    ]
