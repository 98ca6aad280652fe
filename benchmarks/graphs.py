"""What does a dependency cost: a chain of tasks, and a tree? Against futures whose callbacks submit what they release."""

from __future__ import annotations

import itertools
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from benchmarks.measure import Figure, check_recorded, compare, throwaway_home

LENGTH = 5_000
LEAVES = 5_000
REPEATS = 5


def add(x: int, y: int = 1) -> int:
    return x + y


class BarePool:
    """Bare futures that wait for futures: the least that does what a dependency does."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def submit(self, *inputs: Any) -> Future[int]:
        over: Future[int] = Future()
        upstream = [one for one in inputs if isinstance(one, Future)]
        arrivals = itertools.count(1)

        def release(_: object) -> None:
            # Taking a number is atomic: the least that tells the last arrival.
            if next(arrivals) < len(upstream):
                return
            values = [one.result() if isinstance(one, Future) else one for one in inputs]
            self._pool.submit(lambda: over.set_result(add(*values)))

        if not upstream:
            release(None)
        for one in upstream:
            one.add_done_callback(release)
        return over


def bare_chain() -> None:
    with ThreadPoolExecutor() as threads:
        pool = BarePool(threads)
        future = pool.submit(0)
        for _ in range(LENGTH - 1):
            future = pool.submit(future)
        assert future.result() == LENGTH


def bare_tree() -> None:
    with ThreadPoolExecutor() as threads:
        pool = BarePool(threads)
        level = [pool.submit(i) for i in range(LEAVES)]
        while len(level) > 1:
            level = [pool.submit(*level[i : i + 2]) for i in range(0, len(level), 2)]
        level[0].result()


def nodes_of_tree(leaves: int = LEAVES) -> int:
    count, level = leaves, leaves
    while level > 1:
        level = (level + 1) // 2
        count += level
    return count


def measure() -> list[Figure]:
    with throwaway_home():
        from prefect_core import flow, task

        adding = task(add)

        @flow
        def chain() -> None:
            future = adding.submit(0)
            for _ in range(LENGTH - 1):
                future = adding.submit(future)
            assert future.result() == LENGTH

        @flow
        def tree() -> None:
            level = [adding.submit(i) for i in range(LEAVES)]
            while len(level) > 1:
                level = [adding.submit(*level[i : i + 2]) for i in range(0, len(level), 2)]
            level[0].result()

        count = nodes_of_tree()
        figures = [
            compare(f"chain of {LENGTH:,} tasks, each on the one before", chain, bare_chain, LENGTH, 5, REPEATS),
            compare(f"binary tree over {LEAVES:,} leaves", tree, bare_tree, count, 5, REPEATS),
        ]
        check_recorded((LENGTH + count) * (REPEATS + 1))
    return figures
