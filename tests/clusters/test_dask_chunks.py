"""Maps in chunks on Dask: large values stay on the workers, and what is left of a chunk is handed over again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from prefect_core import context, flow, history
from prefect_core.settings import temporary_settings
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


class Meddling:
    """A number that does something once, when it is pickled: while the chunk that it travels in is being handed over."""

    def __init__(self, number: int, act: Callable[[], object]) -> None:
        self.number = number
        self.act: Callable[[], object] | None = act

    def __reduce__(self) -> Any:
        act, self.act = self.act, None
        if act is not None:
            act()
        return int, (self.number,)


def test_what_is_taken_back_of_a_chunk_that_is_just_being_handed_over_does_not_run(
    processes: Any, journal: Journal
) -> None:
    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> list[str]:
        around = context.current()
        assert around is not None
        dispatcher = around.dispatcher

        def withdraw() -> None:
            call = next(one for one in dispatcher.open_calls() if one.run.name == "numbered-1")
            dispatcher.withdraw(call, "Nobody wants it.")

        states = chunk_bodies.numbered.map([0, 1, Meddling(2, withdraw), 3], journal, chunk=4).wait(60)
        assert states is not None
        return [state.name for state in states]

    assert run() == ["Completed", "Cancelled", "Completed", "Completed"]
    assert sorted(journal.lines()) == ["0", "2", "3"]


class LateToHear:
    """A client of Dask that hears what workers answer only after something else has happened."""

    def __init__(self, client: Any, then: Callable[[], object]) -> None:
        self.cancel = client.cancel
        self._client = client
        self._then = then

    def run(self, *args: Any, **kwargs: Any) -> Any:
        answers = self._client.run(*args, **kwargs)
        self._then()
        return answers


def test_what_a_chunk_gave_back_stays_so_when_the_chunk_ends_before_all_workers_have_answered(
    processes: Any, journal: Journal
) -> None:
    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> list[bool]:
        around = context.current()
        assert around is not None
        futures = chunk_bodies.holding_first.map(range(10), journal, chunk=10)
        journal.wait_for("0")

        def end_chunk() -> None:
            journal.note("go")
            futures[0].wait()
            threading.Event().wait(0.3)  # for what should not be handed over again

        session = around.dispatcher.runner._session
        payloads = [call.payload for call in around.dispatcher.open_calls()]
        taken: list[bool] = session._taking_back.cancel(LateToHear(session.client, end_chunk), payloads)
        kept.extend(taken)
        raise KeyError("enough")

    kept: list[bool] = []
    with temporary_settings(cancel_grace_seconds=0.1):
        assert run(return_state=True).is_failed()
    assert kept == [False] + [True] * 9
    assert journal.lines() == ["0", "go"]


def test_quick_calls_go_together_and_none_waits_for_one_that_it_shares_a_chunk_with(
    processes: Any, tmp_path: Path
) -> None:
    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> list[int]:
        return [future.result() for future in [chunk_bodies.meet.submit(x, str(tmp_path)) for x in range(200)]]

    assert run() == list(range(200))
    attempts = history.open_store().task_run("meet-60"), history.open_store().task_run("meet-61")
    assert [run.run_count for run in attempts] == [1, 1]
