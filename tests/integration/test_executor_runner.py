"""The executor runner on executors of the standard library, of loky, and of a kind that nobody has seen before."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import loky
import pytest

from prefect_core import flow, history, task
from prefect_core.errors import WorkerLost
from prefect_core.states import State
from prefect_core.task_runners import ExecutorTaskRunner
from tests.integration import bodies


class FreshThreads(Executor):
    """Runs each call on a thread of its own in this process, and is no ThreadPoolExecutor."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                future.set_result(fn(*args, **kwargs))

        threading.Thread(target=work).start()
        return future


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.fixture(scope="module")
def workers() -> Iterator[Executor]:
    executor = loky.ProcessPoolExecutor(1)
    yield executor
    executor.shutdown(wait=True, kill_workers=True)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture(params=["threads", "processes", "workers", "fresh"])
def executor(request: pytest.FixtureRequest) -> Executor:
    return FreshThreads() if request.param == "fresh" else request.getfixturevalue(request.param)


def test_tasks_run_on_the_executor_and_it_is_left_open(executor: Executor) -> None:
    factor = 3

    @flow(task_runner=ExecutorTaskRunner(executor))
    def run() -> Any:
        return task(lambda number: number * factor).map([1, 2]).result(), bodies.double.submit(
            bodies.double.submit(1)
        ).result()

    assert run() == run() == ([3, 6], 4)
    assert executor.submit(abs, -1).result() == 1
    assert {row.state_name for row in history.open_store().task_runs()} == {"Completed"}


def test_nested_submits_end_at_any_depth_with_one_worker_and_are_recorded(executor: Executor) -> None:
    @flow(task_runner=ExecutorTaskRunner(executor))
    def run() -> list[int]:
        return bodies.count_down.map([3, 30]).result()

    assert run() == [3, 30]
    rows = history.open_store().task_runs()
    assert sorted(row.index for row in rows) == list(range(35))
    assert {row.state_name for row in rows} == {"Completed"}


def test_prints_and_log_records_are_kept_once_in_order(executor: Executor) -> None:
    @flow(task_runner=ExecutorTaskRunner(executor))
    def run() -> None:
        bodies.speak.submit()

    run()
    store = history.open_store()
    assert [log.message for log in store.logs(store.task_run("speak-0").key)] == ["printed", "warned", "printed again"]


def test_a_body_that_takes_too_long_ends_timed_out(executor: Executor, tmp_path: Path) -> None:
    go_on = tmp_path / "go_on"
    os.mkfifo(go_on)
    # Opened for both ends, so that reading it waits for as long as nobody writes.
    held = os.open(go_on, os.O_RDWR)

    @flow(task_runner=ExecutorTaskRunner(executor))
    def run() -> State:
        return bodies.hold.with_options(timeout_seconds=0.1).submit(Path(os.devnull), go_on, return_state=True)

    state = run(return_state=True).data
    os.write(held, b"x")
    os.close(held)
    assert state.name == "TimedOut"


def test_bodies_on_threads_see_the_objects_of_the_flow(threads: ThreadPoolExecutor) -> None:
    seen: list[Any] = []

    @task
    def note(value: Any) -> None:
        seen.append(value)

    @flow(task_runner=ExecutorTaskRunner(threads))
    def run() -> None:
        note.submit(lock)

    lock = threading.Lock()
    run()
    assert seen == [lock]


@pytest.mark.parametrize("kind", [ProcessPoolExecutor, loky.ProcessPoolExecutor])
def test_an_executor_that_breaks_crashes_what_it_had_and_what_it_is_given(kind: Any, tmp_path: Path) -> None:
    executor = kind(1)

    @flow(task_runner=ExecutorTaskRunner(executor))
    def run() -> list[State]:
        lost = bodies.die_once.with_options(retries=0).submit(tmp_path / "mark", "SIGKILL", return_state=True)
        return [lost, bodies.double.submit(1, return_state=True)]

    lost, refused = run(return_state=True).data
    executor.shutdown()
    assert lost.is_crashed()
    assert refused.is_crashed()
    assert isinstance(lost.data, WorkerLost)
    assert "lost this task" in lost.message
    assert "takes no more tasks" in refused.message


@pytest.mark.parametrize("kind", [ProcessPoolExecutor, loky.ProcessPoolExecutor])
def test_a_worker_that_is_killed_crashes_its_attempt_and_takes_the_records_made_in_it_along(kind: Any) -> None:
    executor = kind(1)

    @flow(task_runner=ExecutorTaskRunner(executor))
    def run() -> State:
        return bodies.die_behind_children.submit(return_state=True)

    state = run(return_state=True).data
    executor.shutdown()
    store = history.open_store()
    rows = store.task_runs()
    # There is no channel but the receipt, which never came: the limit that docs/promises.md declares.
    assert [(row.task_name, row.state_name) for row in rows] == [("die_behind_children", "Crashed")]
    assert [entry.name for entry in store.states(rows[0].key)] == ["Pending", "Running", "Crashed"]
    assert store.logs(rows[0].key) == []
    assert isinstance(state.data, WorkerLost)
    assert state.message == rows[0].state_message
    assert f"The executor ({kind.__name__}) lost this task" in state.message


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_an_executor_that_was_shut_down_crashes_the_tasks_it_is_given(kind: Any) -> None:
    executor = kind(1)
    executor.shutdown()

    @flow(task_runner=ExecutorTaskRunner(executor))
    def run() -> State:
        return bodies.double.submit(1, return_state=True)

    state = run(return_state=True).data
    assert state.is_crashed()
    assert "after shutdown" in state.message


def test_a_call_that_somebody_cancels_crashes_its_task(tmp_path: Path) -> None:
    executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    here, go_on = tmp_path / "here", tmp_path / "go_on"
    os.mkfifo(here)
    os.mkfifo(go_on)

    @flow(task_runner=ExecutorTaskRunner(executor))
    def run() -> list[State | None]:
        futures = [bodies.hold.submit(here, go_on), *bodies.double.map(range(5))]
        here.read_text()
        executor.shutdown(wait=False, cancel_futures=True)
        go_on.write_text("")
        return [future.wait() for future in futures]

    first, *others = run(return_state=True).data
    assert first.is_completed()
    # The executor hands one call ahead to its processes.
    assert "cancelled this task before it ran" in others[-1].message
    assert others[-1].is_crashed()


def test_only_executors_are_taken() -> None:
    with pytest.raises(TypeError, match="Executor"):
        ExecutorTaskRunner(4)


def test_a_task_with_an_executor_of_its_own_may_be_mentioned_by_one_that_travels(threads: ThreadPoolExecutor) -> None:
    inner = bodies.double.with_options(task_runner=ExecutorTaskRunner(threads))

    @task
    def outer() -> int:
        return inner.submit(4).result()

    @flow(task_runner="processes:1")
    def run() -> list[int]:
        return [outer.submit().result(), inner.submit(5).result()]

    assert run() == [8, 10]
