"""Maps in chunks on Dask: large values stay on the workers, and what is left of a chunk is handed over again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from prefect_core import flow, history
from prefect_core.task_runners import DaskTaskRunner
from prefect_core.testing.contract.journal import Journal
from tests.clusters import chunk_bodies, dask_bodies
from tests.clusters.existing import ExistingCluster

MEGABYTE = 1 << 20


def test_large_values_of_chunks_stay_on_the_workers(processes: Any) -> None:
    grown: list[int] = []

    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> float:
        dask_bodies.total.map(dask_bodies.ones.map([1], chunk=1), chunk=1).result()
        before = psutil.Process().memory_info().rss
        made = dask_bodies.ones.map([8] * 24, chunk=6)
        made.wait()
        total = sum(dask_bodies.total.map(made, chunk=4).result())
        grown.append(psutil.Process().memory_info().rss - before)
        return total

    assert run() == 24 * 8 * (MEGABYTE >> 3)
    assert grown[0] < 64 * MEGABYTE


def test_a_chunk_that_keeps_a_value_for_long_ends_and_its_rest_goes_on(processes: Any, journal: Journal) -> None:
    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> list[bytes]:
        made = chunk_bodies.slow_first.map(range(4), journal, chunk=4)
        made[0].wait()
        journal.note("the first is known")
        return made.result()

    assert [value[:1] for value in run()] == [bytes([number]) for number in range(4)]
    assert sorted(journal.lines()) == [*[f"begun {number}" for number in range(4)], "the first is known"]


def test_a_value_of_a_chunk_that_is_lost_with_its_worker_is_made_again_alone(
    fragile: ExistingCluster, journal: Journal
) -> None:
    killed: list[int] = []

    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> list[int]:
        made = chunk_bodies.noted.map(range(4), journal, chunk=4)
        made.wait()
        assert len(made[0].result()) == chunk_bodies.LARGE
        killed.append(chunk_bodies.processes(journal)[1])
        fragile.kill_worker(killed[0])
        return [chunk_bodies.length.submit(made[1]).result(), len(made[2].result())]

    assert run() == [chunk_bodies.LARGE] * 2
    store = history.open_store()
    counts = [len(store.attempts(store.task_run(f"noted-{number}").key)) for number in range(4)]
    assert counts == [1, 2, 1 + (chunk_bodies.processes(journal)[2] == killed[0]), 1]
    assert sum(counts) == len(journal.lines())


def test_quick_calls_go_together_and_none_waits_for_one_that_it_shares_a_chunk_with(
    processes: Any, tmp_path: Path
) -> None:
    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> list[int]:
        return [future.result() for future in [chunk_bodies.meet.submit(x, str(tmp_path)) for x in range(200)]]

    assert run() == list(range(200))
    attempts = history.open_store().task_run("meet-60"), history.open_store().task_run("meet-61")
    assert [run.run_count for run in attempts] == [1, 1]
