"""Workers and schedulers that end in the midst of a run: what was lost is said, and nothing runs twice behind the engine's back."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import dask
import distributed
import pytest

from prefect_core import flow, history, task
from prefect_core.errors import WorkerLost
from prefect_core.states import State
from prefect_core.task_runners import DaskTaskRunner
from prefect_core.testing.contract.journal import Journal
from prefect_runners import dask_guard, dask_worker
from prefect_runners.dask_attempts import Attempts
from tests.clusters import dask_bodies as bodies
from tests.clusters.existing import ExistingCluster

pytestmark = pytest.mark.slow


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def test_a_worker_that_is_killed_costs_the_attempt_that_ran_there(fragile: ExistingCluster, journal: Journal) -> None:
    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> list[Any]:
        return [bodies.die.submit(journal, return_state=True), *bodies.double.map(range(4)).result()]

    begun = time.monotonic()
    died, *others = run(return_state=True).data
    assert time.monotonic() - begun < 20
    assert others == [0, 2, 4, 6]
    assert died.is_crashed()
    assert isinstance(died.data, WorkerLost)
    assert "Dask worker tcp://127.0.0.1:" in died.message
    assert journal.lines() == ["died"]
    store = history.open_store()
    assert [attempt.state_name for attempt in store.attempts(store.task_run("die-0").key)] == ["Crashed"]


def test_a_result_beyond_the_memory_of_a_worker_costs_its_task_and_says_what_may_be_the_reason() -> None:
    @task
    def fill() -> Any:
        return bytearray(b"x" * (900 << 20))

    kwargs = {"n_workers": 1, "threads_per_worker": 1, "memory_limit": "400MB", "dashboard_address": "127.0.0.1:0"}

    @flow(task_runner=DaskTaskRunner(cluster_kwargs=kwargs))
    def run() -> list[Any]:
        return [fill.submit().wait(), bodies.double.submit(1).result()]

    filled, other = run(return_state=True).data
    assert filled.is_crashed()
    assert "took more memory than its limit" in filled.message
    assert other == 2


def test_its_retries_go_to_another_worker_and_every_body_is_recorded(
    fragile: ExistingCluster, journal: Journal
) -> None:
    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> State:
        return bodies.die_once.with_options(retries=2).submit(journal, return_state=True)

    state = run(return_state=True).data
    assert state.is_completed()
    assert journal.lines() == ["body", "body"]
    store = history.open_store()
    row = store.task_run("die_once-0")
    assert [attempt.state_name for attempt in store.attempts(row.key)][1:] == ["Completed"]


def kill_busy(cluster: ExistingCluster, journal: Journal) -> list[str]:
    """Kill a worker that holds one task and has others queued; returns how these ended, each as one attempt."""

    @flow(task_runner=DaskTaskRunner(address=cluster.address))
    def run() -> list[State | None]:
        held = bodies.hold.submit(journal)
        while not journal.lines():
            time.sleep(0.01)
        pid = int(journal.lines()[0].split()[1])
        with distributed.Client(cluster.address, set_as_default=False) as client:
            victim = next(address for address, one in client.run(os.getpid).items() if one == pid)
            with dask.annotate(workers=[victim], allow_other_workers=True):
                queued = [bodies.double.submit(number) for number in range(6)]
            while len(client.processing()[victim]) < 7:
                time.sleep(0.01)
        cluster.kill_worker(pid)
        return [future.wait() for future in [held, *queued]]

    held, *queued = run(return_state=True).data
    assert held.is_crashed()
    store = history.open_store()
    rows = [row for row in store.task_runs() if row.task_name == "double"]
    assert [len(store.attempts(row.key)) for row in rows] == [1] * 6
    return [state.name for state in queued]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_what_a_killed_worker_had_not_begun_is_handed_over_again_as_the_same_attempt(
    tmp_path: Path, journal: Journal, host: str
) -> None:
    # At the second address it counts as elsewhere, and another worker is asked that is there.
    with ExistingCluster(tmp_path, workers=2, host=host) as cluster:
        assert kill_busy(cluster, journal) == ["Completed"] * 6


def test_where_nobody_knows_what_had_begun_all_that_the_worker_had_is_lost(tmp_path: Path, journal: Journal) -> None:
    no_locks = {"DASK_DISTRIBUTED__WORKER__USE_FILE_LOCKING": "False"}
    with ExistingCluster(tmp_path, workers=2, environment=no_locks) as cluster:
        assert kill_busy(cluster, journal) == ["Crashed"] * 6


def test_of_a_chunk_only_what_had_begun_is_lost_with_its_worker(fragile: ExistingCluster, journal: Journal) -> None:
    @task
    def item(number: int) -> int:
        journal.note(f"item {number}")
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> list[State | None]:
        return [future.wait() for future in item.map(range(5), chunk=5)]

    states = run(return_state=True).data
    assert [state.name for state in states] == ["Crashed", "Crashed", "Completed", "Completed", "Completed"]
    assert sorted(journal.lines()) == [f"item {number}" for number in range(5)]
    store = history.open_store()
    assert [len(store.attempts(row.key)) for row in store.task_runs()] == [1] * 5


def test_a_value_that_is_lost_with_its_worker_is_made_again_by_an_attempt_that_is_recorded(
    fragile: ExistingCluster, journal: Journal
) -> None:
    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> list[float]:
        made = bodies.make.submit(journal, 1)
        made.wait()
        fragile.kill_worker(int(journal.lines()[0].split()[1]))
        # Had Dask begun it again by itself, this would come behind it.
        assert bodies.double.submit(4).result() == 8
        assert len(journal.lines()) == 1
        return [bodies.total.submit(made).result(), float(made.result().sum())]

    assert run() == [1 << 17, 1 << 17]
    store = history.open_store()
    assert len(journal.lines()) == len(store.attempts(store.task_run("make-0").key)) == 2


def test_a_worker_that_leaves_in_good_order_takes_no_running_body_elsewhere(
    fragile: ExistingCluster, journal: Journal
) -> None:
    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> State | None:
        held = bodies.hold.submit(journal)
        while not journal.lines():
            time.sleep(0.01)
        pid = int(journal.lines()[0].split()[1])
        fragile.end_worker(pid)
        state = held.wait()
        bodies.double.submit(4).result()
        return state

    state = run(return_state=True).data
    assert state.is_crashed()
    assert "ended while it had this task" in state.message
    assert len([line for line in journal.lines() if line.startswith("held ")]) == 1


def test_tasks_behind_a_lost_one_are_handed_over_again(fragile: ExistingCluster, journal: Journal) -> None:
    @task(retries_on_crash=1)
    def first() -> Any:
        import numpy as np  # on the worker

        journal.note("first")
        if journal.lines().count("first") == 1:
            journal.wait_for("all are submitted")
            os.kill(os.getpid(), signal.SIGKILL)
        return np.ones(1 << 17)

    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> float:
        made = first.submit()
        totals = [bodies.total.submit(made) for _ in range(3)]
        journal.note("all are submitted")
        return sum(total.result() for total in totals)

    assert run() == 3 << 17
    assert journal.lines().count("first") == 2
    store = history.open_store()
    assert len(store.attempts(store.task_run("first-0").key)) == 2
    assert [len(store.attempts(row.key)) for row in store.task_runs() if row.task_name == "total"] == [1, 1, 1]


def test_a_reply_that_was_lost_is_asked_for(processes: Any, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Any] = []
    is_armed: list[bool] = []
    settle = Attempts._settle_message

    def lose_first(self: Attempts, message: Any) -> None:
        if message[0] == dask_guard.REPLY and is_armed and not lost:
            lost.append(message)
        else:
            settle(self, message)

    monkeypatch.setattr(Attempts, "_settle_message", lose_first)

    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> float:
        # Once before, so that the worker has loaded what it takes.
        bodies.double.submit(1).result()
        is_armed.append(True)
        begun = time.monotonic()
        assert bodies.double.submit(21).result() == 42
        return time.monotonic() - begun

    assert run() < 4
    assert lost


def test_what_workers_keep_from_beginning_for_an_ask_of_which_nobody_heard_begins_after_all(
    processes: Any, journal: Journal
) -> None:
    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> list[int]:
        _held = [bodies.hold.submit(journal, name) for name in ("one", "two")]
        queued = [bodies.double.submit(7), *bodies.double.map(range(4), chunk=4)]
        with distributed.Client(processes, set_as_default=False) as client:
            while sum(map(len, client.processing().values())) < 4:
                time.sleep(0.01)
            waiting = [key for keys in client.processing().values() for key in keys if not key.startswith("hold")]
            client.run(dask_worker.take_back, waiting)
        journal.note("go")
        return [future.result() for future in queued]

    assert run() == [14, 0, 2, 4, 6]


def test_where_the_scheduler_takes_no_guard_a_lost_attempt_is_still_told(
    fragile: ExistingCluster, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise ValueError("no pickles")

    monkeypatch.setattr(distributed.Client, "register_plugin", refuse)

    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> State:
        return bodies.die.submit(journal, return_state=True)

    state = run(return_state=True).data
    assert state.is_crashed()
    assert "ended while it had this task" in state.message


def test_a_scheduler_that_is_killed_ends_every_open_attempt_with_a_message(
    fragile: ExistingCluster, journal: Journal
) -> None:
    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> list[State | None]:
        futures = [bodies.hold.submit(journal, str(number)) for number in range(3)]
        while not journal.lines():
            time.sleep(0.01)
        fragile.kill_scheduler()
        ended = [future.wait() for future in futures]
        return [*ended, bodies.double.submit(1, return_state=True)]

    begun = time.monotonic()
    ended = run(return_state=True)
    assert time.monotonic() - begun < 30
    assert ended.is_crashed()
    for state in [ended, *ended.data]:
        assert state.is_crashed()
        assert f"The connection to the Dask scheduler at {fragile.address} was lost" in state.message
