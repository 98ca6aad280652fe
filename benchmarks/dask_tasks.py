"""What do tasks cost on Dask? Against bare Dask on a LocalCluster of the same settings, two workers of one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import distributed
import numpy as np
import psutil

from benchmarks.measure import Figure, check_recorded, compare, throwaway_home

SETTINGS: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
NO_OPS = 2_000
LINKS = 500
LEAVES = 1_000
PAUSES = 100
PAUSE_SECONDS = 0.05
ARRAYS = 64
ITEMS = 1 << 20  # of 8 bytes
MOST_GROWTH = 64 << 20
STARTS = 5
REPEATS = 5


def no_op(x: int) -> int:
    return x


def add_one(x: int) -> int:
    return x + 1


def add(left: int, right: int) -> int:
    return left + right


def pause(x: int) -> int:
    time.sleep(PAUSE_SECONDS)
    return x


def make(number: int) -> Any:
    return np.full(ITEMS, float(number))


def total(array: Any) -> float:
    return float(array.sum())


def tree(submit: Callable[..., Any], leaves: int) -> Any:
    """Add up 0 to `leaves` - 1 in pairs; returns the future of the sum."""
    level = [submit(no_op, number) for number in range(leaves)]
    while len(level) > 1:
        odd = level[len(level) & ~1 :]
        level = [submit(add, left, right) for left, right in zip(level[::2], level[1::2], strict=False)] + odd
    return level[0]


def chain(submit: Callable[..., Any]) -> Any:
    link = submit(no_op, 0)
    for _ in range(LINKS - 1):
        link = submit(add_one, link)
    return link


class Programs:
    """The same programs on both: `ours` as flows, `bare` on a client."""

    def __init__(self, cluster: Any, client: Any) -> None:
        from prefect_core import flow, task
        from prefect_core.task_runners import DaskTaskRunner

        self._client = client
        self._flow = flow(task_runner=DaskTaskRunner(cluster=cluster))
        self._tasks = {function: task(function) for function in (no_op, add_one, add, pause, make, total)}
        self.runs = 0

    def ours(self, program: Callable[..., Any], tasks: int) -> Callable[[], Any]:
        flow = self._flow(lambda: program(lambda function, *args: self._tasks[function].submit(*args), _collected))

        def run() -> Any:
            self.runs += tasks
            return flow()

        return run

    def bare(self, program: Callable[..., Any]) -> Callable[[], Any]:
        client = self._client
        return lambda: program(lambda function, *args: client.submit(function, *args, pure=False), client.gather)


def _collected(futures: Any) -> Any:
    return [future.result() for future in futures] if isinstance(futures, list) else futures.result()


def many(submit: Any, collect: Any) -> int:
    return sum(collect([submit(no_op, number) for number in range(NO_OPS)]))


def pauses(submit: Any, collect: Any) -> int:
    return sum(collect([submit(pause, number) for number in range(PAUSES)]))


def one_chain(submit: Any, collect: Any) -> int:
    return collect(chain(submit))


def one_tree(submit: Any, collect: Any) -> int:
    return collect(tree(submit, LEAVES))


def arrays(submit: Any, collect: Any) -> float:
    return sum(collect([submit(total, submit(make, number)) for number in range(ARRAYS)]))


def grown(work: Callable[[], object]) -> int:
    """Return by how many bytes this process is larger after `work`."""
    process = psutil.Process()
    before = process.memory_info().rss
    work()
    return process.memory_info().rss - before


def starts() -> Figure:
    from prefect_core import flow
    from prefect_core.task_runners import DaskTaskRunner

    @flow(task_runner=DaskTaskRunner(cluster_kwargs=SETTINGS))
    def ours() -> None:
        """Do nothing on a cluster of its own."""

    def bare() -> None:
        with distributed.LocalCluster(**SETTINGS) as cluster, distributed.Client(cluster, set_as_default=False):
            """Do nothing."""

    figure = compare("starting and stopping a cluster for one run", ours, bare, 1, None, STARTS)
    ours_seconds, bare_seconds = figure.ours / 1e6, figure.bare / 1e6
    # The limit is a difference.
    limit = (bare_seconds + 0.3) / bare_seconds
    return Figure(figure.what, ours_seconds, bare_seconds, figure.ratio, figure.spread, limit, "seconds")


def measure() -> list[Figure]:
    with (
        throwaway_home(),
        distributed.LocalCluster(**SETTINGS) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        programs = Programs(cluster, client)
        figures = []
        for what, program, tasks, limit in (
            (f"{NO_OPS:,} no-op tasks on Dask, results collected", many, NO_OPS, 1.05),
            (f"a chain of {LINKS} on Dask", one_chain, LINKS, 1.2),
            (f"a tree of {LEAVES:,} leaves on Dask", one_tree, 2 * LEAVES - 1, 1.2),
            (f"{PAUSES} tasks of 50 ms on Dask", pauses, PAUSES, 1 / 0.97),
            (f"{ARRAYS} arrays of 8 MB made and summed on Dask", arrays, 2 * ARRAYS, 1.2),
        ):
            ours, bare = programs.ours(program, tasks), programs.bare(program)
            if ours() != bare():
                raise AssertionError(f"The two differ in what they return: {what}.")
            figures.append(compare(what, ours, bare, tasks, limit, REPEATS))
        growth = grown(programs.ours(arrays, 2 * ARRAYS))
        if growth > MOST_GROWTH:
            raise AssertionError(f"The flow's process grew by {growth >> 20} MB while arrays were made and summed.")
        check_recorded(programs.runs)
        return [*figures, starts()]
