"""Pauses reach what Dask and Ray have: no more begins than the pause tells of, and what was taken back runs once it is resumed."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from prefect_core import cancel_flow_run, history, pause_flow_run, resume_flow_run, suspend_flow_run
from prefect_core.history.rows import FlowRunRow, TaskRunRow
from prefect_core.history.store import RunFilter
from tests.clusters.existing import ExistingCluster, not_of_ray
from tests.integration.retrying import COMMAND, Flows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
SLOTS = 2
"""On each cluster: one task a slot may be with a worker and not be heard of."""
LONG_SECONDS = 120.0
QUIET_SECONDS = 1.0
"""More than a free worker takes to begin what it has."""
COUNT = 60
FEWER = 40
WORK = """
import os, time
from prefect_core import flow, task
from prefect_core.task_runners import DaskTaskRunner, RayTaskRunner

def note(number):
    file = os.open("FOLDER/bodies", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{time.time_ns() // 1000} {number}\\n".encode())
    os.close(file)

@task
def loose(number):
    note(number)
    time.sleep(0.1)
    return number * number

@task(persist_result=True)
def stored(number):
    note(number)
    time.sleep(0.1)
    return number * number

@task
def quick(number):
    note(number)
    return number * number

@task
def follow(square):
    note(10_000 + square)
    time.sleep(0.05)
    return square

@flow(task_runner=RUNNER)
def singly(count: int):
    return sum(loose.map(range(count)).result())

@flow(task_runner=RUNNER)
def in_chunks(count: int):
    return sum(loose.map(range(count), chunk=20).result())

@flow(task_runner=RUNNER)
def quickly(count: int):
    return sum([future.result() for future in [quick.submit(number) for number in range(90 * count)]])

@flow(task_runner=RUNNER)
def in_a_row(count: int):
    return sum(follow.map(loose.map(range(count // 2))).result())

@flow(task_runner=RUNNER)
def keeping(count: int):
    return sum(stored.map(range(count), chunk=20).result()) + sum(stored.map(range(count, count + 10)).result())
"""
OWN = {
    "dask": 'DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"})',
    "ray": 'RayTaskRunner(init_kwargs={"num_cpus": 2, "include_dashboard": False, "object_store_memory": 200 << 20})',
}
CLUSTERS = [
    "dask",
    pytest.param(
        "ray",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("ray") is None, reason="there is no wheel of Ray for this Python"
        ),
    ),
]


@pytest.fixture(scope="module", params=CLUSTERS)
def borrowing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A runner on a cluster that all of these share."""
    if request.param == "dask":
        with ExistingCluster(tmp_path_factory.mktemp("existing"), workers=2) as cluster:
            yield f"DaskTaskRunner(address={cluster.address!r})"
    else:
        from tests.clusters.existing_ray import ExistingRay

        with ExistingRay("--num-cpus=2") as existing:
            yield f"RayTaskRunner({existing.address!r})"


@pytest.fixture
def make_flows(tmp_path: Path, home: Path) -> Callable[[str], Flows]:
    def make(runner: str) -> Flows:
        made = Flows(tmp_path, home)
        made.write(WORK.replace("RUNNER", runner).replace("FOLDER", str(tmp_path)))
        return made

    return make


@pytest.fixture
def flows(make_flows: Callable[[str], Flows], borrowing: str) -> Flows:
    return make_flows(borrowing)


class UnderWay(NamedTuple):
    """A flow run in a process of its own."""

    flows: Flows
    process: subprocess.Popen[str]
    flow: str

    def bodies(self) -> list[tuple[int, int]]:
        """Return when bodies began, in microseconds, and their numbers."""
        path = self.flows.folder / "bodies"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(moment), int(number)) for moment, number in map(str.split, lines)]

    def await_bodies(self, count: int) -> None:
        deadline = time.monotonic() + LONG_SECONDS
        # Bodies are quicker on a cluster that is up than what is recorded of the run.
        while len(self.bodies()) < count or self.row().state_type != "RUNNING":
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def row(self) -> FlowRunRow:
        with history.reading() as store:
            return store.flow_runs(RunFilter(name=self.flow, limit=1))[0]

    def tasks(self) -> list[TaskRunRow]:
        with history.reading() as store:
            return store.task_runs()

    def told(self) -> tuple[int, int]:
        """Return when the run was paused, in microseconds, and how many bodies may begin all the same."""
        row = self.row()
        assert row.state_type == "PAUSED"
        with history.reading() as store:
            state = store.states(row.key)[-1]
        known = re.search(r"(\d+) task runs? had been handed over", state.message or "")
        return state.timestamp_us, int(known[1]) if known else 0

    def await_quiet(self) -> None:
        """Wait until no body runs, and then for as long as a free worker would take to begin another."""
        deadline = time.monotonic() + LONG_SECONDS
        while any(row.state_type == "RUNNING" for row in self.tasks()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        threading.Event().wait(QUIET_SECONDS)

    def begun_since(self, moment_us: int) -> int:
        return sum(moment > moment_us for moment, _ in self.bodies())

    def end(self) -> Any:
        out, errors = self.process.communicate(timeout=LONG_SECONDS)
        assert out, errors
        return json.loads(out)


@contextmanager
def under_way(flows: Flows, flow: str, count: int = COUNT) -> Iterator[UnderWay]:
    process = subprocess.Popen(
        [COMMAND, "run", f"work.py:{flow}", "--json", "-p", f"count={count}"],
        cwd=flows.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **not_of_ray(),
            "RAY_AUTH_MODE": "disabled",
            "PYTHONWARNINGS": "ignore::DeprecationWarning",
            "PYTHONFAULTHANDLER": "1",
        },
    )
    try:
        yield UnderWay(flows, process, flow.replace("_", "-"))
    finally:
        code = process.poll()
        process.kill()
        _, errors = process.communicate()
        # Shown for a test that fails.
        print(f"The process had ended with {code}: {errors}")


def squares(count: int) -> int:
    return sum(number * number for number in range(count))


@pytest.mark.parametrize("flow", ["singly", "in_chunks", "quickly", "in_a_row"])
def test_while_a_run_is_paused_no_more_begins_than_is_told_and_then_each_body_runs_once(
    flows: Flows, flow: str
) -> None:
    with under_way(flows, flow) as run:
        for begun in (1, 20):
            run.await_bodies(begun)
            pause_flow_run(flow_run_id=run.row().id)
            paused_us, told = run.told()
            assert told <= SLOTS
            run.await_quiet()
            assert run.begun_since(paused_us) <= told
            resume_flow_run(run.row().id)
        ended = run.end()
        count = {"quickly": 90 * COUNT, "in_a_row": COUNT // 2}.get(flow, COUNT)
        assert ended["result"] == squares(count)
        rows = run.tasks()
        assert len(rows) == (COUNT if flow == "in_a_row" else count)
        assert {(row.state_name, row.run_count) for row in rows} == {("Completed", 1)}
        assert set(Counter(number for _, number in run.bodies()).values()) == {1}
        assert len(run.bodies()) == len(rows)


def test_a_suspended_run_is_resumed_elsewhere_and_no_body_that_was_stored_runs_again(flows: Flows) -> None:
    with under_way(flows, "keeping", FEWER) as run:
        run.await_bodies(5)
        suspend_flow_run(flow_run_id=run.row().id)
        _, told = run.told()
        assert told <= SLOTS
        at_once = len(run.bodies())
        assert run.end()["state"]["name"] == "Suspended"
        assert len(run.bodies()) <= at_once + told < FEWER
        resumed = flows.json("flow-run", "resume", str(run.row().id))
        assert resumed["result"] == squares(FEWER + 10)
        assert set(Counter(number for _, number in run.bodies()).values()) == {1}
        assert {row.state_name for row in run.tasks()} == {"Completed"}


@pytest.mark.parametrize("own", CLUSTERS)
def test_a_run_that_is_cancelled_while_it_is_paused_begins_nothing_more(
    make_flows: Callable[[str], Flows], own: str
) -> None:
    with under_way(make_flows(OWN[own]), "in_chunks") as run:
        run.await_bodies(3)
        pause_flow_run(flow_run_id=run.row().id)
        paused_us, told = run.told()
        cancel_flow_run(run.row().id, 3)
        assert run.end()["state"]["name"] == "Cancelled"
        assert run.begun_since(paused_us) <= told
        names = Counter(row.state_name for row in run.tasks())
        assert set(names) == {"Completed", "Cancelled"}
        assert names["Cancelled"] >= COUNT // 2
