"""`@task(isolation="process")` with real processes: what nothing else ends, ends in time, on each local runner and in direct calls."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from prefect_core import flow, history, task
from prefect_core.errors import RunnerError, SerializationError, WorkerLost
from prefect_core.states import State
from prefect_core.task_runners import ExecutorTaskRunner
from prefect_runners import worker_pool
from tests.integration import isolated
from tests.integration.programs import running
from tests.integration.watched import PATIENCE_SECONDS as GRACE_SECONDS
from tests.integration.watched import Told, ends, is_running

pytestmark = pytest.mark.slow

SOON = 0.2
LOCAL = ["sequential", "concurrent", "concurrent:1", "processes:1"]


def states_of(task_name: str) -> list[list[str]]:
    # What calls outside of flows did is recorded a moment later.
    history.current().flush()
    with_name = [row for row in history.open_store().task_runs() if row.task_name == task_name]
    return [[state.name for state in history.open_store().states(row.key)] for row in reversed(with_name)]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    told = Told(tmp_path / "told")
    yield told
    told.close()


# Where bodies run.


@pytest.mark.parametrize("runner", LOCAL)
def test_bodies_of_both_colours_run_in_processes_that_stay_warm_and_end_with_the_flow(runner: str) -> None:
    @flow(task_runner=runner)
    def run() -> list[int]:
        direct = isolated.process()
        return [direct, isolated.process.submit().result(), isolated.async_process.submit().result()]

    pids = run()
    assert os.getpid() not in pids
    assert len(set(pids)) < 3
    assert not any(map(is_running, pids))


def test_direct_calls_outside_of_flows_share_warm_processes_too() -> None:
    pids = [isolated.process(), isolated.process(), asyncio.run(isolated.async_process())]
    assert os.getpid() not in pids
    assert len(set(pids)) == 1


def test_an_async_call_leaves_the_event_loop_to_others() -> None:
    async def main() -> tuple[int, int]:
        first, second = await asyncio.gather(isolated.async_process(), isolated.async_process())
        return first, second

    assert os.getpid() not in asyncio.run(main())


def test_on_a_thread_pool_of_the_user_s_own_bodies_are_isolated_too() -> None:
    with ThreadPoolExecutor(1) as executor:

        @flow(task_runner=ExecutorTaskRunner(executor))
        def run() -> int:
            return isolated.process.submit().result()

        assert run() != os.getpid()


@pytest.mark.parametrize("runner", ["sequential", "concurrent:2"])
def test_logs_prints_names_and_nested_tasks_are_as_on_the_process_runner(runner: str) -> None:
    @flow(task_runner=runner, log_prints=True, flow_run_name="around")
    def run() -> dict[str, Any]:
        return isolated.surroundings.submit(5).result()

    inside = run()
    assert (inside["run"], inside["flow"], inside["number"]) == ("surroundings-0", "around", 5)
    assert inside["inner"] == inside["pid"]
    assert inside["isolated"] not in {inside["pid"], os.getpid()}
    assert not is_running(inside["isolated"])
    store = history.open_store()
    key = next(row.key for row in store.task_runs() if row.name == "surroundings-0")
    assert [line.message for line in store.logs(key)] == ["logged inside", "printed inside"]
    assert {row.name: row.state_name for row in store.task_runs()} == dict.fromkeys(
        ("surroundings-0", "inner-0", "isolated-0"), "Completed"
    )
    worker = next(row.worker for row in store.task_runs() if row.name == "surroundings-0")
    assert worker is not None
    assert str(inside["pid"]) in worker


@pytest.mark.parametrize(("runner", "most"), [("sequential", 1), ("concurrent:2", 2)])
def test_isolated_bodies_take_the_places_of_their_runner(runner: str, most: int, tmp_path: Path) -> None:
    here, peak = tmp_path / "here", tmp_path / "peak"
    here.mkdir()
    peak.mkdir()

    @task(isolation="process")
    def stay(number: int) -> None:
        mine = here / str(number)
        mine.touch()
        others = len(list(here.iterdir()))
        (peak / str(others)).touch()
        time.sleep(0.05)
        mine.unlink()

    @flow(task_runner=runner)
    def run() -> None:
        stay.map(range(8)).wait()

    run()
    assert max(int(path.name) for path in peak.iterdir()) <= most


def test_an_executor_whose_processes_are_not_ours_takes_none() -> None:
    with ProcessPoolExecutor(1) as executor:

        @flow(task_runner=ExecutorTaskRunner(executor))
        def run() -> State:
            return isolated.process.submit(return_state=True)

        state = run(return_state=True).data
    assert state.is_failed()
    assert isinstance(state.data, RunnerError)
    promise = 'ExecutorTaskRunner runs bodies where it can\'t end one for certain, so it takes no task with isolation="process".'
    assert str(state.data).startswith(promise)


@pytest.mark.parametrize("is_direct", [True, False])
def test_an_argument_that_cannot_travel_is_named(is_direct: bool) -> None:
    @task(isolation="process")
    def take(lock: Any) -> None: ...

    @flow
    def run() -> State:
        return (take if is_direct else take.submit)(threading.Lock(), return_state=True)

    state = run(return_state=True).data
    assert isinstance(state.data, SerializationError)
    assert "Argument 'lock' of task 'take' can't be sent to another process" in state.message
    assert states_of("take") == [["Pending", "Failed"]]


# Deadlines.


@pytest.fixture
def little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the second in which a late body may end by itself, for bodies that don't."""
    monkeypatch.setattr(worker_pool, "_DEADLINE_GRACE_SECONDS", SOON)


@pytest.mark.parametrize(
    ("runner", "deaf"),
    [
        *((runner, "spin") for runner in (*LOCAL, "direct", "direct on a thread")),
        *(("concurrent", deaf) for deaf in isolated.DEAF if deaf != "spin"),
        ("direct", "block_loop"),
    ],
)
def test_a_body_that_heeds_nothing_ends_at_its_deadline_and_is_tried_again(
    runner: str, deaf: str, little_grace: None
) -> None:
    body = task(isolated.DEAF[deaf], name="deaf", isolation="process", timeout_seconds=SOON, retries=1)

    def run() -> list[Any]:
        begun = time.monotonic()
        if not runner.startswith("direct"):
            state = body.submit().wait()
        elif deaf == "block_loop":
            state = asyncio.run(body(return_state=True))
        else:
            state = body(return_state=True)
        return [state, time.monotonic() - begun, isolated.process()]

    if runner.startswith("direct"):
        outcome = run() if runner == "direct" else on_thread(run)
    else:
        outcome = flow(run, task_runner=runner)()
    state, seconds, pid = outcome
    assert state.name == "TimedOut"
    assert 2 * SOON <= seconds < GRACE_SECONDS
    assert pid != os.getpid()
    assert states_of("deaf") == [["Pending", "Running", "AwaitingRetry", "Retrying", "TimedOut"]]


def on_thread(function: Callable[[], Any]) -> Any:
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(function()))
    thread.start()
    thread.join()
    return outcome[0]


@pytest.mark.parametrize("runner", ["concurrent", "processes:1"])
def test_what_a_late_body_started_ends_with_it(runner: str, told: Told, little_grace: None) -> None:
    late = isolated.tell_and_hold.with_options(timeout_seconds=3)

    @flow(task_runner=runner)
    def run() -> State:
        return late.submit(told.pipe, "spin").wait()

    assert run(return_state=True).data.name == "TimedOut"
    assert all(map(ends, told.pids()))


def test_the_deadline_of_the_run_around_ends_an_isolated_body_that_it_called(told: Told) -> None:
    @task(timeout_seconds=3)
    def around() -> None:
        isolated.tell_and_hold(told.pipe, "sleep_in_c")

    @flow
    def run() -> State:
        # The process is there by the time that counts.
        isolated.process()
        return around(return_state=True)

    assert run(return_state=True).data.name == "TimedOut"
    assert all(map(ends, told.pids()))


# Ends from elsewhere.


@pytest.mark.parametrize("runner", ["sequential", "concurrent"])
@pytest.mark.parametrize("option", ["retries", "retries_on_crash"])
def test_a_killed_process_crashes_its_attempt_alone_and_the_task_is_tried_again(
    runner: str, option: str, tmp_path: Path
) -> None:
    body: Any = isolated.die_once.with_options(**{option: 1})

    @flow(task_runner=runner)
    def run() -> str:
        return body.submit(tmp_path / "mark").result()

    assert run() == "alive"
    assert states_of("die_once") == [["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]]


def test_a_killed_process_is_named_with_its_end(tmp_path: Path) -> None:
    state = isolated.die_once(tmp_path / "mark", return_state=True)
    assert state.is_crashed()
    assert isinstance(state.data, WorkerLost)
    assert "was killed by signal 9 (SIGKILL) while it ran this task" in state.message


@pytest.mark.parametrize("runner", ["concurrent", "processes:1"])
def test_a_body_under_way_is_killed_when_its_flow_fails(
    runner: str, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_CORE_CANCEL_GRACE_SECONDS", "0")

    @flow(task_runner=runner)
    def run() -> None:
        isolated.tell_and_hold.submit(told.pipe, "spin")
        told.pids()
        raise KeyError("enough")

    assert run(return_state=True).is_failed()
    assert all(map(ends, told.pids()))
    assert states_of("tell_and_hold")[0][-1] == "Crashed"


def call_of(future: Any) -> Any:
    """Return the engine's call behind a future, of which it may demand an end."""
    return future._call_in_progress


@pytest.mark.parametrize(
    ("runner", "deaf"),
    [("concurrent", None), ("concurrent", "spin"), ("concurrent", "sleep_in_c"), ("processes:1", "spin")],
)
def test_a_body_ends_within_the_seconds_that_the_engine_gives_it(runner: str, deaf: str | None, told: Told) -> None:
    @flow(task_runner=runner)
    def run() -> State:
        held = isolated.tell_and_hold.submit(told.pipe, deaf)
        told.pids()
        assert call_of(held).end_body(SOON)
        return held.wait()

    state = run(return_state=True).data
    assert state.is_crashed()
    assert all(map(ends, told.pids()[:1]))


@pytest.mark.parametrize("runner", ["concurrent", "processes:1"])
def test_a_body_that_is_asked_to_end_may_clean_up(runner: str, tmp_path: Path) -> None:
    told, cleaned = tmp_path / "told", tmp_path / "cleaned"
    os.mkfifo(told)

    @flow(task_runner=runner)
    def run() -> tuple[State, int, int]:
        held = isolated.clean_up.submit(told, cleaned)
        pid = int(told.read_text())
        assert call_of(held).end_body(GRACE_SECONDS)
        return held.wait(), pid, isolated.process.submit().result()

    state, pid, pid_afterwards = run(return_state=True).data
    assert state.is_crashed()
    assert cleaned.read_text() == "up"
    assert ends(pid)
    assert pid_afterwards != pid


def test_a_body_that_is_ended_before_its_process_has_begun_never_begins(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    @flow(task_runner="concurrent")
    def run() -> State:
        # Its process is being started, which takes longer than to say so.
        held = task(mark.touch, name="touch", isolation="process").submit()
        assert call_of(held).end_body(0)
        return held.wait()

    state = run(return_state=True).data
    assert not state.is_completed()
    assert not mark.exists()


PROGRAM = """
from pathlib import Path
from tests.integration import isolated

@flow(task_runner={runner!r})
def run():
    isolated.tell_and_hold.submit(Path({pipe!r}), {deaf!r}).wait()

run()
"""


@pytest.mark.parametrize(
    ("runner", "deaf"), [("sequential", "sleep_in_c"), ("concurrent", "spin"), ("processes:1", "spin")]
)
def test_nothing_is_left_of_a_program_that_is_killed(runner: str, deaf: str, home: Path, told: Told) -> None:
    with running(home, PROGRAM.format(runner=runner, pipe=str(told.pipe), deaf=deaf)) as program:
        pids = told.pids()
        program.hit(signal.SIGKILL)
        assert all(map(ends, pids))


@pytest.mark.parametrize("runner", ["sequential", "concurrent"])
@pytest.mark.parametrize(("number", "codes"), [(signal.SIGINT, {130, -signal.SIGINT}), (signal.SIGTERM, {143})])
def test_nothing_is_left_of_a_program_that_is_told_to_end(
    runner: str, number: signal.Signals, codes: set[int], home: Path, told: Told
) -> None:
    code = PROGRAM.format(runner=runner, pipe=str(told.pipe), deaf="spin")
    with running(home, code, PREFECT_CORE_INTERRUPT_GRACE_SECONDS="0.1") as program:
        pids = told.pids()
        program.hit(number)
        assert program.end(GRACE_SECONDS)[0] in codes
        assert all(map(ends, pids))
    assert states_of("tell_and_hold") == [["Pending", "Running", "Crashed"]]
