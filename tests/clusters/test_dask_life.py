"""The life of clusters: who starts them, who ends them, and what is left."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import distributed
import psutil
import pytest

from prefect_core import flow, logs, task
from prefect_core.errors import ConfigurationError, RunnerError
from prefect_core.settings import temporary_settings
from prefect_core.task_runners import DaskTaskRunner
from prefect_core.testing.contract.journal import Journal
from prefect_runners import dask_cluster
from tests.clusters import dask_bodies as bodies
from tests.clusters.existing import ExistingCluster, not_of_ray
from tests.clusters.killing_flows import kill_flow

pytestmark = pytest.mark.slow

DASK = tuple(map(int, version_of("distributed").split(".")[:2]))
SMALL = {"n_workers": 1, "threads_per_worker": 1}


@pytest.fixture(autouse=True)
def own_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary folders of this test alone: others make theirs meanwhile."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def left_behind() -> tuple[list[str], list[str]]:
    """Return the worker processes of clusters in this process, and the folders of their files."""
    children = [child.cmdline() for child in psutil.Process().children(recursive=True) if child.status() != "zombie"]
    workers = [" ".join(command) for command in children if "spawn_main" in " ".join(command)]
    return workers, [path.name for path in Path(tempfile.gettempdir()).glob("prefect-core-dask-*")]


def held_on(address: str) -> dict[str, Any]:
    """Return what a scheduler holds."""

    def look(dask_scheduler: Any) -> dict[str, Any]:
        # Of newer versions of Dask, and of older ones.
        topics = dask_scheduler._broker._topics if hasattr(dask_scheduler, "_broker") else dask_scheduler.events
        return {
            "tasks": list(dask_scheduler.tasks),
            "plugins": [name for name in dask_scheduler.plugins if name.startswith("prefect-core")],
            "events": [name for name in topics if name.startswith("prefect-core")],
            "processing": sum(len(worker.processing) for worker in dask_scheduler.workers.values()),
        }

    with distributed.Client(address, set_as_default=False) as client:
        return dict(client.run_on_scheduler(look))


NOTHING = {"tasks": [], "plugins": [], "events": [], "processing": 0}


def is_soon(wanted: Any, look: Any, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while look() != wanted:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def refused(address: str) -> tuple[Any, float]:
    """Run a flow on the cluster at an address; returns how it ended, and after how many seconds."""

    @flow(task_runner=DaskTaskRunner(address=address))
    def run() -> int:
        return bodies.double.submit(1).result()

    begun = time.monotonic()
    return run(return_state=True).data, time.monotonic() - begun


def test_a_wrong_address_is_an_error_that_says_what_was_tried() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        addresses = [f"tcp://127.0.0.1:{free.getsockname()[1]}", "nonsense://x", "tcp://no.such.host.invalid:8786"]
        # All at once: each is tried for as long as a scheduler may take to come up.
        with ThreadPoolExecutor(len(addresses)) as threads:
            ends = list(threads.map(refused, addresses))
    for address, (error, seconds) in zip(addresses, ends, strict=True):
        assert seconds < 10
        assert isinstance(error, RunnerError)
        assert f"No Dask scheduler could be reached at '{address}'" in str(error)


def test_a_cluster_of_its_own_ends_with_the_run_and_listens_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(logs, "engine_line", lambda run, level, message, *rest: told.append(message))
    listening: list[str] = []

    @flow(task_runner=DaskTaskRunner(cluster_kwargs=SMALL))
    def run(fails: bool) -> int:
        pid = bodies.process.submit().result()
        here = [*psutil.Process().net_connections("tcp"), *psutil.Process(pid).net_connections("tcp")]
        listening.extend(one.laddr.ip for one in here if one.status == psutil.CONN_LISTEN)
        if fails:
            raise KeyError("enough")
        return pid

    before = left_behind()
    assert not psutil.pid_exists(run(False))
    assert run(True, return_state=True).is_failed()
    assert listening
    assert {ip for ip in listening if not ip.startswith("127.")} == set()
    assert left_behind() == before
    assert told[0] == "Creating a new Dask cluster with `distributed.deploy.local.LocalCluster`"
    assert told[1].startswith("The Dask dashboard is available at http://127.0.0.1:")


def test_a_cluster_that_does_not_start_leaves_nothing() -> None:
    @flow(task_runner=DaskTaskRunner(cluster_kwargs={**SMALL, "no_such_option": 1}))
    def run() -> int:
        return 1

    before = left_behind()
    state = run(return_state=True)
    assert isinstance(state.data, RunnerError)
    assert "The Dask cluster could not be started with distributed.deploy.local.LocalCluster(n_workers=1" in str(
        state.data
    )
    assert left_behind() == before


@pytest.mark.skipif(DASK < (2026, 7), reason="Dask waited for workers that end as they start")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_script_that_calls_its_flow_when_it_is_imported_is_told_what_to_do(tmp_path: Path, workers: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from prefect_core import flow, task\n"
        "from prefect_core.task_runners import DaskTaskRunner\n"
        "@task\n"
        "def one():\n"
        "    return 1\n"
        f"@flow(task_runner=DaskTaskRunner(cluster_kwargs={ {**SMALL, 'n_workers': workers}!r}))\n"
        "def run():\n"
        "    return one.submit().result()\n"
        "run()\n"
    )
    environment = {**not_of_ray(), "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=50, env=environment)
    assert ended.returncode == 1
    assert "A Dask worker process imports the script that started it" in ended.stderr
    last = ended.stderr.rstrip().splitlines()[-1]
    assert "The Dask cluster could not be started" in last
    assert f"Each of them imports {script}: if that calls its flow, put the call below `if __name__" in last
    assert list(tmp_path.glob("prefect-core-dask-*")) == []


def test_a_class_of_cluster_that_is_not_there_is_an_error() -> None:
    for name in ("distributed.NoSuchCluster", "no_such_package.Cluster", "word"):

        @flow(task_runner=DaskTaskRunner(cluster_class=name))
        def run() -> int:
            return 1

        state = run(return_state=True)
        assert isinstance(state.data, ConfigurationError)
        assert name in str(state.data)


def test_a_cluster_may_be_started_by_any_callable_or_by_its_dotted_name() -> None:
    of_threads = {**SMALL, "processes": False}
    for cluster_class, given in (
        (functools.partial(distributed.LocalCluster, **of_threads), {}),
        ("distributed.LocalCluster", of_threads),
    ):

        @task
        def one() -> int:
            return 1

        @flow(task_runner=DaskTaskRunner(cluster_class=cluster_class, cluster_kwargs=given))
        def run() -> int:
            return one.submit().result()

        assert run() == 1


def test_a_callable_that_starts_none_is_an_error_that_names_it() -> None:
    def fail(**options: Any) -> None:
        raise OSError("no room")

    @flow(task_runner=DaskTaskRunner(cluster_class=functools.partial(fail, a=1)))
    def run() -> None: ...

    state = run(return_state=True)
    assert isinstance(state.data, RunnerError)
    assert "could not be started with functools.partial(" in state.message
    assert "no room" in state.message


def test_a_subflow_has_a_cluster_of_its_own_and_warm_ones_are_shared() -> None:
    def runner(warm: bool) -> DaskTaskRunner:
        return DaskTaskRunner(
            cluster_class=distributed.LocalCluster,
            cluster_kwargs={**SMALL, "processes": False},
            keep_warm=warm,
        )

    for warm in (False, True):

        @task
        def place() -> str:
            return distributed.get_worker().scheduler.address

        @flow(task_runner=runner(warm))
        def inner() -> str:
            return place.submit().result()

        @flow(task_runner=runner(warm))
        def outer() -> list[str]:
            return [place.submit().result(), inner(), inner.submit().result()]

        assert len(set(outer())) == (1 if warm else 3)
    dask_cluster.close_warm_clusters()


def test_a_borrowed_cluster_is_left_as_it_was(existing: ExistingCluster, journal: Journal) -> None:
    @flow(task_runner=DaskTaskRunner(address=existing.address))
    def run() -> None:
        bodies.make.submit(journal, 1).wait()
        futures = [bodies.pause.submit(0.2) for _ in range(20)]
        futures[0].wait()
        raise KeyError("enough")

    with temporary_settings(cancel_grace_seconds=0.05):
        assert run(return_state=True).is_failed()
    assert is_soon(NOTHING, lambda: held_on(existing.address))


def test_a_flow_that_times_out_leaves_nothing_running_on_a_borrowed_cluster(
    existing: ExistingCluster, journal: Journal
) -> None:
    @flow(task_runner=DaskTaskRunner(address=existing.address), timeout_seconds=1)
    def run() -> None:
        for future in [bodies.hold.submit(journal, str(number)) for number in range(6)]:
            future.result()

    with temporary_settings(cancel_grace_seconds=0.05):
        assert run(return_state=True).name == "TimedOut"
    begun = journal.lines()
    assert len(begun) == 2
    journal.note("go")
    assert is_soon(NOTHING, lambda: held_on(existing.address))
    assert journal.lines() == [*begun, "go"]


def test_a_flow_process_that_is_killed_leaves_no_worker(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal\n"
        "from prefect_core import flow\n"
        "from tests.clusters import dask_bodies as bodies\n"
        "from prefect_core.task_runners import DaskTaskRunner\n"
        f"@flow(task_runner=DaskTaskRunner(cluster_kwargs={SMALL!r}))\n"
        "def run():\n"
        "    print(bodies.process.submit().result(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "if __name__ == '__main__':\n"
        "    run()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=50, env=environment)
    worker = int(ended.stdout.split()[0])
    assert is_soon(False, lambda: psutil.pid_exists(worker))


def test_what_a_killed_flow_process_had_on_a_borrowed_cluster_is_crashed_and_only_bodies_that_run_go_on(
    existing: ExistingCluster, tmp_path: Path, home: Path
) -> None:
    runner = f"DaskTaskRunner(address={existing.address!r})"
    journal, begun = kill_flow(runner, tmp_path / "killed", home)
    assert is_soon(NOTHING, lambda: held_on(existing.address))
    # Dask interrupts nobody: these two go on to their end, and what waited behind them is let go.
    journal.note("go")
    assert is_soon(2, lambda: journal.lines().count("went on"))
    # Both workers are free, for bodies of another program and no others.
    again, _ = kill_flow(runner, tmp_path / "again", home)
    again.note("go")
    assert is_soon(2, lambda: again.lines().count("went on"))
    assert journal.lines() == [*map(str, begun), "go", "went on", "went on"]


def test_a_report_of_the_run_is_written(threads: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"

    @flow(task_runner=DaskTaskRunner(cluster=threads, performance_report_path=str(path)))
    def run() -> int:
        return bodies.double.submit(1).result()

    assert run() == 2
    assert "Dask Performance Report" in path.read_text()


def test_an_adaptive_cluster_grows_for_the_work_and_shrinks_again() -> None:
    @flow(
        task_runner=DaskTaskRunner(
            cluster_kwargs={"n_workers": 0, "threads_per_worker": 1, "processes": False},
            adapt_kwargs={"minimum": 0, "maximum": 2, "interval": "100ms"},
        )
    )
    def run() -> list[int]:
        return bodies.double.map(range(30)).result()

    assert run() == [2 * number for number in range(30)]
