"""The process runner with real processes, which are killed for real."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from prefect_core import flow, history, task
from prefect_core.errors import WorkerLost
from prefect_core.history.store import RunFilter
from prefect_core.states import State
from prefect_core.task_runners import ProcessPoolTaskRunner, resolve_runner
from tests.integration import bodies
from tests.integration.programs import running
from tests.integration.watched import is_running

pytestmark = pytest.mark.slow


def states_of(task_name: str) -> list[list[str]]:
    with_name = [row for row in history.open_store().task_runs() if row.task_name == task_name]
    return [[state.name for state in history.open_store().states(row.key)] for row in reversed(with_name)]


@pytest.fixture
def pipes(tmp_path: Path) -> tuple[Path, Path]:
    here, go_on = tmp_path / "here", tmp_path / "go_on"
    os.mkfifo(here)
    os.mkfifo(go_on)
    return here, go_on


# Where bodies run, and how the pool begins and ends.


def test_bodies_run_in_as_many_processes_as_there_are_workers_and_these_end_with_the_flow(
    pipes: tuple[Path, Path],
) -> None:
    @flow(task_runner="processes:2")
    def run() -> list[int]:
        # One process is held, so everything else goes to the other.
        held = bodies.hold.submit(*pipes)
        held_pid = int(pipes[0].read_text())
        pids = {held_pid, *(bodies.process.submit().result() for _ in range(4))}
        pipes[1].write_text("")
        return [held.result(), *pids]

    held, *pids = run()
    assert held in pids
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert not any(map(is_running, pids))


@pytest.mark.parametrize("workers", [0, -1, 1.5])
def test_a_number_of_workers_below_one_is_refused(workers: Any) -> None:
    with pytest.raises(ValueError, match="max_workers"):
        ProcessPoolTaskRunner(workers)


def test_a_name_may_carry_the_number_of_workers() -> None:
    assert resolve_runner("processes:3") == ProcessPoolTaskRunner(3)


def test_an_initializer_runs_in_each_process_before_the_first_body() -> None:
    @flow(task_runner=ProcessPoolTaskRunner(1, bodies.start, ("a", 1)))
    def run() -> Any:
        return bodies.arguments_of_start.submit().result()

    assert run() == ["a", 1]


def test_an_initializer_that_fails_crashes_every_task_once_and_names_the_reason() -> None:
    @flow(task_runner=ProcessPoolTaskRunner(1, bodies.refuse_to_start))
    def run() -> list[State | None]:
        return bodies.double.map([1, 2, 3]).wait()

    for state in run(return_state=True).data:
        assert str(state) == "Crashed('The initializer of the worker processes failed: ValueError: no licence.')"


def test_a_script_needs_no_guard_and_its_own_functions_and_classes_travel(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("""
from dataclasses import dataclass
from prefect_core import flow, task

@dataclass
class Point:
    x: int

offset = 3
def shifted(point):
    return Point(point.x + offset)

@task
def shift(point):
    return shifted(point)

shift_more = task(lambda point: shift.submit(point).result())

@flow(task_runner="processes:2")
def run():
    return [future.result() for future in (shift.submit(Point(1)), shift_more.submit(Point(2)))]

print(run() == [Point(4), Point(5)])
""")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ended = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=30)
    assert ended.stdout == "True\n", ended.stderr


WARNING_SCRIPT = """
import warnings
from prefect_core import flow, task

@task
def warn(): warnings.warn("beware, quietly")

@task(log_prints=True)
def warn_aloud(): warnings.warn("beware, aloud")

@flow(task_runner="processes:1")
def run():
    warn.submit()
    warn_aloud.submit()

run()
"""


def test_warnings_of_bodies_are_seen_once(tmp_path: Path) -> None:
    script = tmp_path / "warning.py"
    script.write_text(WARNING_SCRIPT, encoding="utf-8")
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stderr.count("UserWarning: beware, quietly\n") == 1
    assert ended.stderr.count("UserWarning: beware, aloud\n") == 1
    [aloud] = [line for line in ended.stderr.splitlines() if "UserWarning: beware, aloud" in line]
    # With `log_prints` it is a line of the task run's log.
    assert "Task run 'warn_aloud-0'" in aloud


# Processes that die.


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("exit", "ended with exit code 3"),
        ("SIGKILL", "killed by signal 9 (SIGKILL)"),
        ("SIGSEGV", "signal 11 (SIGSEGV)"),
    ],
)
def test_a_process_that_dies_crashes_its_attempt_alone_and_the_task_is_tried_again(
    how: str, said: str, tmp_path: Path
) -> None:
    @flow(task_runner="processes:1")
    def run() -> list[Any]:
        lost = bodies.die_once.submit(tmp_path / "mark", how)
        return [lost.result(), *bodies.double.map([1, 2]).result()]

    assert run() == ["survived", 2, 4]
    assert states_of("die_once") == [["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]]
    store = history.open_store()
    row = next(row for row in store.task_runs() if row.task_name == "die_once")
    assert said in (store.states(row.key)[2].message or "")


def test_a_lost_process_is_named_with_its_end(tmp_path: Path) -> None:
    @flow(task_runner="processes:1")
    def run() -> State:
        return bodies.die_once.with_options(retries=0).submit(tmp_path / "mark", "SIGKILL", return_state=True)

    state = run(return_state=True).data
    assert state.is_crashed()
    assert isinstance(state.data, WorkerLost)
    assert "while it ran this task" in state.message


def test_a_body_under_way_is_shown_running_and_is_killed_with_its_process_when_the_flow_fails(
    pipes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_CORE_CANCEL_GRACE_SECONDS", "0")
    seen: list[Any] = []
    begun = threading.Event()
    hold = bodies.hold.with_options(on_running=[lambda *_: begun.set()])

    @flow(task_runner="processes:1")
    def run() -> None:
        held, waiting = hold.submit(*pipes), bodies.double.submit(1)
        seen.append(int(pipes[0].read_text()))
        begun.wait()
        seen.extend([held.state.name, waiting.state.name])
        raise KeyError("enough")

    assert run(return_state=True).is_failed()
    pid, *names = seen
    assert names == ["Running", "Pending"]
    assert not is_running(pid)
    assert states_of("hold")[0][-1] == "Crashed"
    assert states_of("double") == [["Pending", "Cancelled"]]


def test_workers_end_by_themselves_when_their_main_process_is_killed(home: Path, pipes: tuple[Path, Path]) -> None:
    code = f"""
from pathlib import Path
from tests.integration import bodies

@flow(task_runner="processes:2")
def run():
    futures = [bodies.tell_and_hold.submit(*map(Path, {list(map(str, pipes))!r})) for _ in range(2)]
    futures[0].result()

run()
"""
    # Both ends are ours too, so neither pipe ends before we have heard of both workers.
    told, held = (os.open(pipe, os.O_RDWR) for pipe in pipes)
    with running(home, code) as program:
        watches = [os.pidfd_open(int(os.read(told, 8))) for _ in range(2)]
        program.hit(signal.SIGKILL)
        for watch in watches:
            assert select.select([watch], [], [], 20)[0]
            os.close(watch)
    os.close(told)
    os.close(held)


def test_ctrl_c_ends_what_runs_in_processes_after_the_grace_period(home: Path, pipes: tuple[Path, Path]) -> None:
    code = f"""
from pathlib import Path
from tests.integration import bodies

@flow(task_runner="processes:1")
def run():
    bodies.hold.submit(*map(Path, {list(map(str, pipes))!r})).result()

run()
"""
    with running(home, code, PREFECT_CORE_INTERRUPT_GRACE_SECONDS="0.1") as program:
        pid = int(pipes[0].read_text())
        program.hit(signal.SIGINT)
        assert program.end()[0] in {130, -signal.SIGINT}
        assert not is_running(pid)
    assert states_of("hold") == [["Pending", "Running", "Crashed"]]


# Deadlines.


def test_a_body_that_no_signal_interrupts_is_ended_with_its_process(pipes: tuple[Path, Path]) -> None:
    held = os.open(pipes[1], os.O_RDWR)

    @flow(task_runner="processes:1")
    def run() -> list[Any]:
        deaf = bodies.hold_deaf.submit(Path(os.devnull), pipes[1])
        return [deaf.wait(), bodies.double.submit(1).result()]

    state, doubled = run(return_state=True).data
    os.close(held)
    assert (state.name, doubled) == ("TimedOut", 2)


def test_what_runs_inside_a_body_at_its_deadline_crashes_and_ends_with_the_process(pipes: tuple[Path, Path]) -> None:
    held = os.open(pipes[1], os.O_RDWR)

    @flow(task_runner="processes:1")
    def run() -> list[Any]:
        outer = bodies.hold_inside.submit(*pipes)
        pid = int(pipes[0].read_text())
        return [outer.wait(), bodies.process.submit().result(), pid]

    state, pid, pid_before = run(return_state=True).data
    os.close(held)
    assert state.name == "TimedOut"
    assert pid != pid_before
    assert not is_running(pid_before)
    assert states_of("hold") == [["Pending", "Running", "Crashed"]]
    assert states_of("double") == [["Pending", "Cancelled"]]


# What a body submits.


def test_nested_submits_end_at_any_depth_with_one_process_and_are_recorded_with_their_numbers() -> None:
    @flow(task_runner="processes:1")
    def run() -> list[int]:
        return bodies.count_down.map([5, 50]).result()

    assert run() == [5, 50]
    rows = [row for row in history.open_store().task_runs() if row.task_name == "count_down"]
    assert {row.state_name for row in rows} == {"Completed"}
    assert sorted(row.index for row in rows) == list(range(57))
    assert sum(row.parent_task_run is None for row in rows) == 2


def test_what_a_body_submits_and_does_not_wait_for_is_run_before_its_attempt_ends() -> None:
    @flow(task_runner="processes:1")
    def run() -> str:
        return bodies.leave_behind.submit(20).result()

    assert run() == "left"
    store = history.open_store()
    outer = store.task_run("leave_behind-0")
    inner = [row for row in store.task_runs() if row.task_name == "double"]
    assert [row.state_name for row in inner] == ["Completed"] * 20
    assert {row.parent_task_run for row in inner} == {outer.key}


def test_a_failed_run_inside_a_body_counts_for_the_flow_as_it_does_on_threads() -> None:
    @flow(task_runner="processes:1")
    def run() -> None:
        bodies.fail_inside.submit()

    state = run(return_state=True)
    assert str(state) == "Failed('1/2 states failed.')"
    with pytest.raises(ValueError, match="inside"):
        state.result()


def test_results_of_tasks_of_a_subflow_in_a_body_are_not_stored_and_come_all_the_same() -> None:
    @task(persist_result=True)
    def kept(number: int) -> int:
        return number + 1

    @flow(persist_result=True)
    def inner() -> int:
        return kept.submit(1).result() + kept(2)

    @task
    def outer() -> int:
        return inner()

    @flow(task_runner="processes:1")
    def run() -> int:
        return outer.submit().result()

    assert run() == 5
    store = history.open_store()
    assert store.task_run("kept-0").state_type == "COMPLETED"
    assert store.kept(store.task_run("kept-0").key) is None


def test_a_subflow_in_a_body_runs_there_on_its_own_runner_and_is_recorded_whole() -> None:
    @flow(name="inner")
    def inner(number: int) -> int:
        return sum(bodies.double.map(range(number)).result())

    @task
    def outer() -> tuple[int, int]:
        return inner("3"), inner.submit("4").result()

    @flow(task_runner="processes:1", name="main")
    def run() -> Any:
        return outer.submit().result()

    assert run() == (6, 12)
    store = history.open_store()
    subflows = [row for row in store.flow_runs() if row.flow_name == "inner"]
    assert [row.state_name for row in subflows] == ["Completed"] * 2
    assert [row.parameters for row in subflows] == [{"number": 4}, {"number": 3}]
    assert {row.parent_flow_run for row in subflows} == {store.flow_runs()[-1].key}
    assert sorted(len(store.task_runs(RunFilter(flow_run=row.key))) for row in subflows) == [3, 4]


# Processes that bodies make.


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_a_body_may_use_multiprocessing_with_every_start_method(start_method: str) -> None:
    @flow(task_runner="processes:1")
    def run() -> list[int]:
        return bodies.run_in_children.submit(start_method).result()

    assert run() == [1, 2, 3]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("runner", ["processes:1", "concurrent"])
def test_a_child_made_by_fork_may_run_a_flow_of_its_own(runner: str) -> None:
    @flow(task_runner=runner)
    def run() -> list[int]:
        return [bodies.fork_and_run_flow.submit().result(), bodies.double.submit(1).result()]

    assert run() == [42, 2]
    rows = {row.flow_name: row.state_name for row in history.open_store().flow_runs()}
    assert rows == {"run": "Completed", "of-the-child": "Completed"}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("runner", ["processes:1", "concurrent", "sequential"])
def test_a_child_that_comes_back_out_of_a_body_ends_and_records_nothing(runner: str) -> None:
    @flow(task_runner=runner)
    def run() -> list[int]:
        return [bodies.fork_and_exit.submit(5).result(), bodies.double.submit(1).result()]

    assert run() == [5, 2]
    assert states_of("fork_and_exit") == [["Pending", "Running", "Completed"]]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_made_by_fork_in_the_flow_does_not_touch_the_workers_of_its_parent() -> None:
    @flow(task_runner="processes:1")
    def run() -> list[int]:
        before = bodies.process.submit().result()
        child = os.fork()
        if child == 0:
            sys.exit(9)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return [code, before - bodies.process.submit().result()]

    assert run() == [9, 0]
