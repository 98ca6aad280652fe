"""Do ten thousand async tasks run at once on one loop? Against a bare anyio task group doing the same."""

from __future__ import annotations

import anyio

from benchmarks.measure import Figure, check_recorded, compare, throwaway_home

COUNT = 10_000
REPEATS = 3


async def nap() -> int:
    await anyio.sleep(0.1)
    return 1


def bare() -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(COUNT):
                group.start_soon(nap)

    anyio.run(main)


def measure() -> list[Figure]:
    with throwaway_home():
        from prefect_core import flow, task

        napping = task(nap)

        @flow
        async def naps() -> int:
            futures = [napping.submit() for _ in range(COUNT)]
            return sum([await future for future in futures])

        def ours() -> None:
            assert anyio.run(naps) == COUNT

        figure = compare(f"{COUNT:,} async tasks that sleep 0.1 s, at once", ours, bare, COUNT, 6, REPEATS)
        check_recorded(COUNT * (REPEATS + 1))
    return [figure]
