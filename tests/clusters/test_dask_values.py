"""Values, code and news on their way between a flow's process and the workers of a Dask cluster."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import dask
import dask.array
import distributed
import psutil
import pytest

from prefect_core import flow, history, task
from prefect_core.errors import MissingContextError, RunnerError, SerializationError
from prefect_core.states import State
from prefect_core.task_runners import DaskTaskRunner, get_async_dask_client, get_dask_client
from prefect_core.testing.contract.journal import Journal
from prefect_runners import versions
from tests.clusters import dask_bodies as bodies
from tests.clusters.existing import ExistingCluster

pytestmark = pytest.mark.slow

MEGABYTE = 1 << 20


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def test_large_values_stay_on_the_workers(processes: Any, journal: Journal) -> None:
    grown: list[int] = []

    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> float:
        bodies.total.submit(bodies.make.submit(journal, 1)).result()
        before = psutil.Process().memory_info().rss
        totals = [bodies.total.submit(bodies.make.submit(journal, 8)) for _ in range(24)]
        total = sum(future.result() for future in totals)
        grown.append(psutil.Process().memory_info().rss - before)
        return total

    assert run() == 24 * 8 * (MEGABYTE >> 3)
    assert grown[0] < 64 * MEGABYTE


def test_a_large_argument_travels_without_a_warning(processes: Any) -> None:
    @task
    def length(data: bytes) -> int:
        return len(data)

    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> int:
        return length.submit(b"x" * (12 * MEGABYTE)).result()

    assert run() == 12 * MEGABYTE


@pytest.mark.parametrize("kind", ["processes", "threads", "existing"])
def test_logs_and_prints_arrive_once_and_in_order(kind: str, request: pytest.FixtureRequest) -> None:
    cluster = request.getfixturevalue(kind)
    runner = DaskTaskRunner(address=cluster.address) if kind == "existing" else DaskTaskRunner(cluster=cluster)

    @task(log_prints=True)
    def speak_slowly() -> None:
        for number in range(6):
            print("line", number)
            time.sleep(0.2)

    @flow(task_runner=runner)
    def run() -> None:
        speak_slowly.submit()
        bodies.speak.map(["one", "two"])

    run()
    store = history.open_store()

    def said(name: str) -> list[str]:
        return [log.message for log in store.logs(store.task_run(name).key) if ".task_runs" in log.logger]

    assert said("speak_slowly-0") == [f"line {number}" for number in range(6)]
    assert said("speak-1") == ["logged two", "printed two", "warned two"]


def test_a_body_that_lasts_shows_as_running_within_a_second(processes: Any, journal: Journal) -> None:
    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> str:
        held = bodies.hold.submit(journal)
        journal_began = time.monotonic()
        while held.state.name != "Running" and time.monotonic() < journal_began + 10:
            time.sleep(0.01)
        name = held.state.name
        taken.append(time.monotonic() - journal_began)
        journal.note("go")
        return name

    taken: list[float] = []
    assert run() == "Running"
    assert taken[0] < 1.5


def test_futures_and_collections_of_dask_are_resolved_on_the_cluster(processes: Any) -> None:
    @task
    def add(*numbers: Any) -> Any:
        return sum(numbers)

    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> list[Any]:
        with distributed.Client(processes, set_as_default=False) as theirs, get_dask_client() as ours:
            one, two = theirs.submit(int, "1"), ours.submit(int, "2")
            lazy = dask.delayed(int)("3")
            ones = dask.array.ones(10, chunks=5)
            return [add.submit(one, two, lazy).result(), float(add.submit(ones.sum()).result())]

    assert run() == [6, 10.0]


def test_they_are_resolved_at_any_depth(processes: Any) -> None:
    @task
    def look(value: Any) -> Any:
        return value

    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> Any:
        with get_dask_client() as client:
            one, lazy = client.submit(int, "1"), dask.delayed(int)("3")
            return look.submit({"deep": [one, {"deeper": (lazy, dask.array.ones(4, chunks=2).sum())}]}).result()

    assert run() == {"deep": [1, {"deeper": (3, 4.0)}]}


def test_collections_of_a_module_that_the_flow_imports_are_resolved_too(existing: ExistingCluster) -> None:
    program = f"""
import sys
from prefect_core import flow, task
from prefect_runners.dask import DaskTaskRunner

@task
def kind(value):
    return type(value).__name__

@flow(task_runner=DaskTaskRunner(address={existing.address!r}))
def run():
    assert "dask.bag" not in sys.modules
    import dask.bag
    return kind.submit([dask.bag.from_sequence([1, 2]).sum()]).result(), kind.submit(dask.bag.from_sequence([1]).sum()).result()

print(run())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "('list', 'int')"


def test_a_dask_future_is_refused_where_no_dask_runner_was_ever_started(existing: ExistingCluster) -> None:
    program = f"""
import distributed
from prefect_core import flow, task

@task(task_runner="processes:1")
def look(value):
    return value

@flow
def run():
    with distributed.Client({existing.address!r}) as client:
        return look.submit([client.submit(int, "1")], return_state=True)

print(run(return_state=True).data.message)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "distributed.client.Future lies on a cluster and can't leave it" in ended.stdout


def test_a_dask_future_is_refused_elsewhere(processes: Any, threads: Any) -> None:
    with distributed.Client(processes, set_as_default=False) as client:
        one = client.submit(int, "1")

        @flow(task_runner=DaskTaskRunner(cluster=threads))
        def run() -> list[State]:
            return [
                bodies.double.submit(one, return_state=True),
                bodies.double.with_options(task_runner="processes:1").submit(one, return_state=True),
            ]

        other, processes_state = run(return_state=True).data
    assert isinstance(other.data, SerializationError)
    assert "is of the cluster at tcp://" in other.message
    assert isinstance(processes_state.data, SerializationError)
    assert "lies on a cluster and can't leave it" in processes_state.message


def test_resources_are_called_as_the_workers_call_them_and_what_none_has_is_an_error_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kwargs = {"n_workers": 1, "processes": False, "resources": {"GPU": 1, "memory": 8e9}}

    @flow(task_runner=DaskTaskRunner(cluster_kwargs=kwargs | {"dashboard_address": "127.0.0.1:0"}))
    def run() -> list[State]:
        fitting = bodies.double.with_options(resources={"gpu": 1, "memory": "8GB"})
        greedy = bodies.double.with_options(resources={"gpu": 2})
        strange = bodies.double.with_options(resources={"license": 1})
        mapped = strange.map([1, 2], chunk=2)
        return [*(one.submit(2, return_state=True) for one in (fitting, greedy, strange)), *mapped.wait()]

    fitting, *refused = run(return_state=True).data
    assert fitting.result() == 4
    assert all(isinstance(state.data, RunnerError) for state in refused)
    assert (
        "asks for 2 of 'GPU', and no worker of this Dask cluster has that: at most they have 1 of 'GPU'"
        in refused[0].message
    )
    assert len(refused) == 4


def test_what_a_borrowed_cluster_lacks_is_waited_for_with_a_warning(
    fragile: ExistingCluster, caplog: pytest.LogCaptureFixture
) -> None:
    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> int:
        future = bodies.double.with_options(resources={"gpu": 1}).submit(2)
        assert future.wait(0.5) is None
        fragile.add_worker("--resources", "gpu=1")
        return future.result()

    assert run() == 4
    assert "It waits until one comes that has it." in caplog.text


def test_clients_for_the_code_of_flows_and_tasks(processes: Any) -> None:
    @task
    def compute() -> float:
        with get_dask_client() as client:
            assert client.submit(int, "5").result() == 5
            return float(dask.array.ones(10, chunks=5).sum().compute())

    @task
    async def compute_async() -> int:
        async with get_async_dask_client(timeout=5) as client:
            number: int = await client.submit(int, "6")
            return number

    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> list[Any]:
        with get_dask_client() as client:
            here = client.submit(int, "4").result()
        with get_dask_client(timeout=5) as client:
            here += client.submit(int, "0").result()
        return [here, *[compute.submit() for _ in range(3)], compute_async.submit()]

    states = run(return_state=True).data
    assert states[0] == 4
    assert [state.result() for state in states[1:]] == [10.0, 10.0, 10.0, 6]
    with pytest.raises(MissingContextError, match="There is no Dask cluster around"), get_dask_client():
        pass


def test_a_flow_in_a_task_uses_the_cluster_around_it(existing: ExistingCluster) -> None:
    @flow(task_runner=DaskTaskRunner())
    def inner(number: int) -> int:
        return sum(bodies.double.map(range(number)).result())

    @task
    def around(number: int) -> tuple[int, str]:
        return inner(number), distributed.get_worker().scheduler.address

    @flow(task_runner=DaskTaskRunner(address=existing.address))
    def run() -> list[tuple[int, str]]:
        return around.map([2, 3, 4]).result()

    assert run() == [(2, existing.address), (6, existing.address), (12, existing.address)]
    assert {row.state_name for row in history.open_store().task_runs()} == {"Completed"}


def test_what_a_task_asks_for_decides_where_it_runs(fragile: ExistingCluster) -> None:
    worker = fragile.add_worker("--resources", "GPU=1")

    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> list[set[int]]:
        asked = bodies.process.with_options(resources={"GPU": 1})
        with dask.annotate(resources={"GPU": 1}, retries=5, priority=3):
            annotated = [bodies.process.submit() for _ in range(3)]
        return [
            {asked.submit().result() for _ in range(3)},
            {future.result() for future in annotated},
        ]

    assert run() == [{worker.pid}, {worker.pid}]


def test_a_module_that_the_workers_lack_travels_by_value(
    existing: ExistingCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text(
        "from prefect_core import task\nFACTOR = 3\n"
        "def times(number):\n    return FACTOR * number\n"
        "@task\ndef triple(number):\n    return times(number)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    @flow(task_runner=DaskTaskRunner(address=existing.address))
    def run() -> list[int]:
        return only_here.triple.map([1, 2]).result()

    assert run() == [3, 6]
    del sys.modules["only_here"]


def test_a_module_that_is_missing_behind_another_is_named(
    existing: ExistingCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far_behind.py").write_text("def times(number):\n    return 3 * number\n")
    (tmp_path / "in_front.py").write_text(
        "from far_behind import times\nfrom prefect_core import task\n@task\ndef triple(number):\n    return times(number)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import in_front

    @flow(task_runner=DaskTaskRunner(address=existing.address))
    def run() -> State:
        return in_front.triple.submit(1, return_state=True)

    state = run(return_state=True).data
    assert state.is_failed()
    assert "ModuleNotFoundError: No module named 'far_behind'" in state.message
    assert "Whatever it imports must be importable in workers too." in state.message
    del sys.modules["in_front"], sys.modules["far_behind"]


def test_a_cluster_with_other_software_is_refused_with_a_table(threads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = versions.here
    changed = {"prefect_core": "9.9", "cloudpickle": "0.1"}
    monkeypatch.setattr(versions, "here", lambda packages: here(packages) | changed)

    @flow(task_runner=DaskTaskRunner(cluster=threads))
    def run() -> int:
        return bodies.double.submit(1).result()

    state = run(return_state=True)
    assert isinstance(state.data, RunnerError)
    lines = str(state.data).splitlines()
    assert lines[0] == "The software of the Dask cluster differs from that of the flow's process:"
    assert lines[1].split() == ["what", "here", "where", "there"]
    assert [line.split()[:2] for line in lines[2:6]] == [["prefect_core", "9.9"], ["cloudpickle", "0.1"]] * 2
    assert {line[line.index("  ") :].split()[1].split(":")[0] for line in lines[2:6]} == {"inproc", "the"}
    assert lines[6] == "To do: install there: pip install cloudpickle==0.1 prefect_core==9.9."


def test_an_unpicklable_input_from_inside_a_worker_is_no_hang(processes: Any) -> None:
    @task
    def give() -> Any:
        return {"lock": threading.Lock()}

    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> list[State | None]:
        given = give.submit()
        return [given.wait(), bodies.double.submit(given).wait()]

    given, behind = run(return_state=True).data
    assert isinstance(given.data, SerializationError)
    assert behind.name == "NotReady"
