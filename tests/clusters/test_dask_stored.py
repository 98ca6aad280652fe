"""Large stored values on a Dask cluster: workers write them and read them, and the flow's process sees none that nobody asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from prefect_core import flow, history, settings, task
from prefect_core.cache_policies import INPUTS
from prefect_core.crash_points import VARIABLE
from prefect_core.results import load_result
from prefect_core.settings import temporary_settings
from prefect_core.task_runners import DaskTaskRunner
from prefect_core.testing.contract.journal import Journal
from prefect_core.transactions import transaction
from tests.clusters import dask_bodies as bodies
from tests.clusters.existing import ExistingCluster

pytestmark = pytest.mark.slow

MEGABYTE = 1 << 20
stored = bodies.make.with_options(persist_result=True)


def objects() -> list[Path]:
    """Return the objects in the storage of this test's home."""
    return sorted(path for path in (settings.current().home / "storage").rglob("*") if path.is_file())


def messages() -> list[str]:
    history.current().flush()
    return [log.message for run in history.open_store().task_runs() for log in history.open_store().logs(run.key)]


def test_workers_store_what_they_make_and_the_flow_s_process_holds_nothing(processes: Any, journal: Journal) -> None:
    grown: list[int] = []

    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> tuple[float, Any]:
        bodies.total.submit(stored.submit(journal, 1)).result()
        before = psutil.Process().memory_info().rss
        made = [stored.submit(journal, 8) for _ in range(24)]
        total = sum(bodies.total.submit(one).result() for one in made)
        grown.append(psutil.Process().memory_info().rss - before)
        return total, made[3]

    total, state = run(return_state=True).data
    assert total == 24 * 8 * (MEGABYTE >> 3)
    assert grown[0] < 64 * MEGABYTE
    assert len(objects()) == 25
    assert load_result(state.state_details.task_run_id).sum() == state.result().sum() == MEGABYTE


def test_stored_tasks_hand_their_values_on_without_the_flow_s_process(processes: Any) -> None:
    @task(persist_result=True)
    def more(array: Any) -> Any:
        return array + 1

    @task(persist_result=True)
    def zeros() -> Any:
        import numpy as np  # on the worker

        return np.zeros(16 << 17)

    grown: list[int] = []

    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> float:
        before = psutil.Process().memory_info().rss
        array = zeros.submit()
        for _ in range(8):
            array = more.submit(array)
        total: float = bodies.total.submit(array).result()
        grown.append(psutil.Process().memory_info().rss - before)
        return total

    assert run() == 8 * (16 << 17)
    assert grown[0] < 64 * MEGABYTE
    assert len(objects()) == 9


def test_a_stored_value_goes_by_its_place_to_another_runner(processes: Any, journal: Journal) -> None:
    elsewhere = bodies.total.with_options(task_runner="processes:1")
    grown: list[int] = []

    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> float:
        elsewhere.submit(stored.submit(journal, 1)).result()
        before = psutil.Process().memory_info().rss
        made = [stored.submit(journal, 16) for _ in range(8)]
        total = sum(elsewhere.submit({"deep": [one]}["deep"][0]).result() for one in made)
        grown.append(psutil.Process().memory_info().rss - before)
        return total

    assert run() == 8 * 16 * (MEGABYTE >> 3)
    assert grown[0] < 64 * MEGABYTE


def test_what_a_subflow_stored_is_loaded_by_the_workers_that_need_it(processes: Any) -> None:
    class Counted(bytes):
        """Knows how often it was pickled in the flow's process."""

        pickled = 0

        def __reduce__(self) -> tuple[Any, ...]:
            type(self).pickled += 1
            return bytes, (bytes(self),)

    @flow(persist_result=True)
    def inner() -> bytes:
        return Counted(3 * MEGABYTE)

    @task
    def size(data: bytes) -> int:
        return len(data)

    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> list[int]:
        state = inner(return_state=True)
        return [one.result() for one in [size.submit(state) for _ in range(5)]]

    assert run() == [3 * MEGABYTE] * 5
    assert Counted.pickled == 1


def test_a_value_that_was_stored_is_not_computed_again_when_its_worker_dies(
    fragile: ExistingCluster, journal: Journal
) -> None:
    @flow(task_runner=DaskTaskRunner(address=fragile.address))
    def run() -> list[float]:
        made = stored.submit(journal, 1)
        made.wait()
        fragile.kill_worker(int(journal.lines()[0].split()[1]))
        return [bodies.total.submit(made).result(), float(made.result().sum())]

    assert run() == [1 << 17, 1 << 17]
    assert len(journal.lines()) == 1
    store = history.open_store()
    assert [row.state_name for row in store.attempts(store.task_run("make-0").key)] == ["Completed"]


def test_a_worker_that_dies_between_object_and_reply_leaves_an_object_that_no_result_names(
    tmp_path: Path, journal: Journal
) -> None:
    once = stored.with_options(retries_on_crash=1)
    with ExistingCluster(tmp_path, workers=1, environment={VARIABLE: "keeping.after_object_afar:1"}) as cluster:

        @flow(task_runner=DaskTaskRunner(address=cluster.address))
        def run() -> float:
            first = once.submit(journal, 1)
            cluster.workers[0].wait()
            cluster.environment.pop(VARIABLE)
            cluster.add_worker()
            return float(first.result().sum())

        assert run() == 1 << 17
    store = history.open_store()
    row = store.task_run("make-0")
    assert [attempt.state_name for attempt in store.attempts(row.key)] == ["AwaitingRetry", "Completed"]
    assert len(journal.lines()) == len(objects()) == 2
    kept = store.kept(row.key)
    assert kept is not None
    assert str(objects()[1]).endswith(kept.result.object)
    assert ".2." in kept.result.object


def test_a_storage_that_workers_do_not_share_is_noticed_and_the_values_go_through_the_flow_s_process(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    monkeypatch.chdir(theirs)
    # Another folder in each process, as on another machine. One that a task names would be refused.
    apart = temporary_settings(results_storage="/proc/self/cwd/results")
    with ExistingCluster(tmp_path, workers=2) as cluster, apart:
        monkeypatch.chdir(ours)

        @flow(task_runner=DaskTaskRunner(address=cluster.address))
        def run() -> list[float]:
            first = stored.submit(journal, 1)
            first.wait()
            later = [stored.submit(journal, 2) for _ in range(3)]
            elsewhere = stored.with_options(task_runner="processes:1").submit(journal, 1)
            # Stored here, where no worker finds it.
            sums = [bodies.total.submit(one).result() for one in [first, *later, elsewhere]]
            return [*sums, float(later[0].result().sum())]

        assert run() == [1 << 17, *[2 << 17] * 3, 1 << 17, 2 << 17]
    assert len([path for path in theirs.rglob("*") if path.is_file()]) == 1
    assert len([path for path in ours.rglob("*") if path.is_file()]) == 5
    assert len(journal.lines()) == 5
    said = [message for message in messages() if "don't share the storage" in message]
    assert len(said) == 1
    assert "What a worker has written there is not found from here." in said[0]


def test_a_value_at_hand_travels_itself_where_workers_do_not_find_what_was_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    @task(persist_result=True, result_storage="/proc/self/cwd/results", task_runner="concurrent")
    def here(megabytes: int) -> bytes:
        return bytes(megabytes * MEGABYTE)

    @task
    def size(data: bytes) -> int:
        return len(data)

    with ExistingCluster(tmp_path, workers=1) as cluster:
        ours = tmp_path / "ours"
        ours.mkdir()
        monkeypatch.chdir(ours)

        @flow(task_runner=DaskTaskRunner(address=cluster.address))
        def run() -> list[int]:
            gone = here.with_options(cache_result_in_memory=False).submit(2)
            return [size.submit(here.submit(2)).result(), size.submit(gone).result()]

        assert run() == [2 * MEGABYTE, 2 * MEGABYTE]
    assert len([message for message in messages() if "don't share the storage" in message]) == 1


def test_what_a_transaction_holds_back_is_written_by_the_flow_s_process(processes: Any, journal: Journal) -> None:
    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> list[int]:
        counts = []
        try:
            with transaction():
                stored.submit(journal, 1).wait()
                counts.append(len(objects()))
                raise ValueError
        except ValueError:
            pass
        with transaction():
            stored.submit(journal, 1).wait()
            counts.append(len(objects()))
        return [*counts, len(objects())]

    assert run() == [0, 0, 1]


def test_a_key_of_the_user_s_and_a_cache_find_what_was_made_on_a_worker(processes: Any, tmp_path: Path) -> None:
    named = bodies.ones.with_options(
        result_storage=tmp_path, result_storage_key="{task_run.task_name}-{parameters[megabytes]}"
    )
    cached = bodies.ones.with_options(persist_result=True, cache_policy=INPUTS)

    @flow(task_runner=DaskTaskRunner(cluster=processes))
    def run() -> list[str]:
        named.submit(1).wait()
        first, second = cached.submit(2), None
        first.wait()
        second = cached.submit(2)
        assert bodies.total.submit(second).result() == 2 << 17
        return [first.state.name, second.state.name]

    assert run() == ["Completed", "Cached"]
    assert (tmp_path / "ones-1").stat().st_size > MEGABYTE
    assert len(objects()) == 1
