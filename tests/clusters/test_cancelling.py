"""Cancelling reaches what runs on Dask and on Ray: nothing of it is left there, and a borrowed cluster is."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import pytest

from prefect_core import cancel_flow_run, cancel_task_run
from prefect_core.history.process import started
from prefect_core.history.sqlite.store import SqliteStore
from tests.clusters.existing import ExistingCluster
from tests.integration.programs import Program, ends, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
LIMIT_SECONDS = 5.0
SLACK_SECONDS = 10.0
SLEEPING = """
from prefect_core.task_runners import DaskTaskRunner

@task(retries=2)
def rest(count):
    with open("bodies", "a") as bodies:
        print(os.getpid(), file=bodies)
    for _ in range(6000):
        time.sleep(0.01)

@flow(task_runner=RUNNER)
def third():
    futures = [rest.submit(number) for number in range(64)]
    for future in futures:
        future.wait()

@flow
def second():
    third()

@flow
def first():
    second()

if __name__ == "__main__":
    first()
"""
DASK = 'DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"})'
RUNNERS = [
    pytest.param(DASK, id="dask"),
    pytest.param(
        '"ray"',
        id="ray",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("ray") is None, reason="there is no wheel of Ray for this Python"
        ),
    ),
]


def bodies(home: Path, program: Program, count: int) -> list[int]:
    """Wait for the first bodies, and return the processes that they run in."""
    path = home / "bodies"
    while True:
        assert program.process.poll() is None, program.process.communicate()
        lines = path.read_text().splitlines() if path.exists() else []
        if len(lines) >= count:
            return [int(line) for line in lines]
        time.sleep(0.02)


def newest(home: Path, flow: str) -> str:
    store = SqliteStore(home)
    try:
        return next(str(row.id) for row in store.flow_runs() if row.flow_name == flow)
    finally:
        store.close()


@pytest.mark.parametrize("runner", RUNNERS)
def test_64_sleeping_tasks_three_flows_deep_are_dead_within_five_seconds(home: Path, runner: str) -> None:
    with running(home, SLEEPING.replace("RUNNER", runner)) as program:
        pids = bodies(home, program, 2)
        asked = time.monotonic()
        assert cancel_flow_run(newest(home, "first"), 3).is_cancelling()
        program.end(60)
        while any(started(pid) for pid in pids):
            assert time.monotonic() - asked < LIMIT_SECONDS + SLACK_SECONDS
        assert time.monotonic() - asked < LIMIT_SECONDS + SLACK_SECONDS
    flows, tasks = ends(home)
    assert {state for _, state, _ in flows} == {"Cancelled"}
    assert {state for _, state, _ in tasks} == {"Cancelled"}
    # None was tried again.
    assert len((home / "bodies").read_text().splitlines()) == len(pids)


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_task_run_is_cancelled_alone(home: Path, runner: str) -> None:
    code = """
    from prefect_core.task_runners import DaskTaskRunner

    @task(retries=2)
    def rest():
        with open("bodies", "a") as bodies:
            print(os.getpid(), file=bodies)
        for _ in range(6000):
            time.sleep(0.01)

    @task
    def add(x, y):
        return x + y

    @flow(task_runner=RUNNER)
    def first():
        future = rest.submit()
        say(future.wait().name)
        say(str(add.submit(1, 2).result()))

    if __name__ == "__main__":
        first()
    """
    with running(home, code.replace("RUNNER", runner)) as program:
        bodies(home, program, 1)
        store = SqliteStore(home)
        while not (found := [row for row in store.task_runs() if row.state_name == "Running"]):
            time.sleep(0.01)
        store.close()
        cancel_task_run(found[0].id, 1)
        program.end(60)
    assert program.lines == ["Cancelled", "3"], program.errors


def test_the_workers_of_a_borrowed_cluster_live_on(home: Path, existing: ExistingCluster) -> None:
    runner = f"DaskTaskRunner(address={existing.address!r})"
    # Its workers are in a folder of their own.
    code = SLEEPING.replace("RUNNER", runner).replace('"bodies"', repr(str(home / "bodies")))
    with running(home, code) as program:
        deadline = time.monotonic() + 60
        store = SqliteStore(home)
        while len([row for row in store.task_runs() if row.state_name == "Running" and row.task_name == "rest"]) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        store.close()
        asked = time.monotonic()
        cancel_flow_run(newest(home, "first"), 3)
        program.end(60)
        assert time.monotonic() - asked < LIMIT_SECONDS + SLACK_SECONDS
    assert {state for _, state, _ in ends(home)[1]} == {"Cancelled"}
    assert all(worker.poll() is None for worker in existing.workers)
