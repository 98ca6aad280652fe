"""Cancelling runs of other processes, which are real and really killed: what ends, how soon, and what is said when something goes wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefect_core import cancel_flow_run, cancel_task_run, history
from prefect_core.errors import NotCancellable
from prefect_core.history.requests import LOST
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.history.store import RunFilter
from tests.integration.programs import ROOT, Program, ends, running, store_of
from tests.integration.watched import descendants, still_running

pytestmark = pytest.mark.slow

FLOW_MESSAGE, TASK_MESSAGE = "Flow run was cancelled.", "Task run was cancelled."
STOPPED = "The flow run was cancelled and this run did not end within the grace period."
LIMIT_SECONDS = 5.0
"""For all to be dead with a grace of three, on a machine that does nothing else; others share this one."""
SLACK_SECONDS = 5.0

SLEEPING = """
def told(flow, run, state):
    say(f"hook of {flow.name}: {state.name}")

@flow(on_cancellation=[told], on_failure=[told], on_crashed=[told])
def main():
    say("begun")
    time.sleep(60)

main()
"""


def prefect_core(*arguments: str) -> subprocess.CompletedProcess[str]:
    roots = os.pathsep.join(map(str, (ROOT, ROOT / "runners", ROOT / "serializers")))
    return subprocess.run(
        [sys.executable, "-c", "from prefect_core.cli.main import program; program()", *arguments],
        env={**os.environ, "PYTHONPATH": roots},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def run_id(home: Path, flow: str = "main") -> str:
    """Return the id of the newest run of a flow, once it is Running."""
    store = SqliteStore(home)
    try:
        while True:
            for row in store.flow_runs():
                if row.flow_name == flow and row.state_name == "Running":
                    return str(row.id)
    finally:
        store.close()


def state_of(home: Path, run: str) -> tuple[str, str | None]:
    store = SqliteStore(home)
    try:
        row = store.flow_run(run)
        return row.state_name, row.state_message
    finally:
        store.close()


def until(home: Path, run: str, state: str) -> None:
    while state_of(home, run)[0] != state:
        time.sleep(0.005)


def test_the_command_line_cancels_a_flow_run(home: Path) -> None:
    with running(home, SLEEPING) as program:
        program.wait_for("begun")
        run = run_id(home)
        shown = json.loads(prefect_core("flow-run", "inspect", run, "--json").stdout)
        assert shown["infrastructure_pid"] == f"{socket.gethostname()}:{program.process.pid}"
        cancelled = prefect_core("flow-run", "cancel", run, "--grace-seconds", "3")
        assert cancelled.returncode == 0
        assert cancelled.stdout == f"Flow run '{run}' was successfully scheduled for cancellation.\n"
        code, _ = program.end()
    assert code == 1
    assert "CancelledRun: Flow run was cancelled." in program.errors
    assert [line for line in program.lines if "hook" in line] == ["hook of main: Cancelled"]
    assert ends(home)[0] == {("main", "Cancelled", FLOW_MESSAGE): 1}
    again = prefect_core("flow-run", "cancel", run)
    assert again.returncode == 1
    assert again.stderr == (
        f"Error: Flow run '{run}' was unable to be cancelled. Reason: 'Run is already in terminal state CANCELLED.'\n"
    )
    assert f"{socket.gethostname()}:{program.process.pid}" in prefect_core("flow-run", "inspect", run).stdout


def test_the_command_line_cancels_a_task_run(home: Path) -> None:
    code = """
    @flow(task_runner="processes:1")
    def main():
        say(linger.submit().wait().name)
        say(linger.submit(0).wait().name)

    main()
    """
    with running(home, code) as program:
        program.wait_for("begun")
        while not (found := json.loads(prefect_core("task-run", "ls", "--state", "Running", "--json").stdout)):
            continue
        run = found[0]["id"]
        cancelled = prefect_core("task-run", "cancel", run)
        assert cancelled.stdout == f"Task run '{run}' was successfully scheduled for cancellation.\n"
        program.end()
    assert program.lines == ["begun", "Cancelled", "begun", "Completed"]
    assert ends(home)[1] == {("linger", "Cancelled", TASK_MESSAGE): 1, ("linger", "Completed", None): 1}


def test_unknown_runs_are_said_to_be_so(home: Path) -> None:
    unknown = "a55a4804-9e3c-4042-8b59-b3b6b7618736"
    for kind in ("flow", "task"):
        refused = prefect_core(f"{kind}-run", "cancel", unknown)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr == f"Error: {kind.capitalize()} run '{unknown}' not found!\n"


NESTED = """
import asyncio
from concurrent.futures import ThreadPoolExecutor
from prefect_core.task_runners import ExecutorTaskRunner

def say_pid():
    os.write(1, f"begun {os.getpid()}\\n".encode())

@task(name="rest")
def sleeper():
    say_pid()
    time.sleep(60)

@task(name="rest")
async def async_sleeper():
    say_pid()
    await asyncio.sleep(60)

isolated = sleeper.with_options(isolation="process")

@flow(task_runner=RUNNER)
def third():
    for future in [BODY.submit() for _ in range(COUNT)]:
        future.wait()

@flow
def second():
    third()

@flow
def first():
    second()

try:
    first()
finally:
    if RUNNER_IS_BORROWED:
        # Python would wait for the threads of an executor, which is the program's own, and they sleep on.
        os._exit(1)
"""


@pytest.mark.parametrize(
    ("runner", "body", "count", "begun"),
    [
        ("'sequential'", "sleeper", 64, 1),
        ("'concurrent:64'", "sleeper", 64, 64),
        ("'processes:4'", "sleeper", 64, 4),
        ("ExecutorTaskRunner(ThreadPoolExecutor(64))", "sleeper", 64, 64),
        ("'concurrent'", "async_sleeper", 64, 64),
        # A process for each.
        ("'concurrent:8'", "isolated", 8, 8),
        ("ExecutorTaskRunner(ThreadPoolExecutor(8))", "isolated", 8, 8),
    ],
)
def test_sleeping_tasks_three_flows_deep_are_dead_within_five_seconds(
    home: Path, runner: str, body: str, count: int, begun: int
) -> None:
    is_borrowed = runner.startswith("Executor") and body == "sleeper"
    code = NESTED.replace("RUNNER_IS_BORROWED", str(is_borrowed)).replace("RUNNER", runner)
    code = code.replace("BODY", body).replace("COUNT", str(count))
    with running(home, code) as program:
        pids = {program.process.pid}
        assert program.process.stdout is not None
        for _ in range(begun):
            pids.add(int(program.process.stdout.readline().split()[1]))
        run = run_id(home, "first")
        # Those too that run no body.
        below = descendants(program.process.pid)
        assert pids <= below | {program.process.pid}
        pids |= below
        asked = time.monotonic()
        assert cancel_flow_run(run, 3).is_cancelling()
        program.end()
        seconds = time.monotonic() - asked
    assert seconds < LIMIT_SECONDS + SLACK_SECONDS
    while left := still_running(pids):
        assert time.monotonic() - asked < LIMIT_SECONDS + SLACK_SECONDS, left
    flows, tasks = ends(home)
    assert {state for _, state, _ in flows} == {"Cancelled"}
    assert {(name, state) for name, state, _ in tasks} == {
        ("rest", "Cancelled"),
        ("second", "Cancelled"),
        ("third", "Cancelled"),
    }


def test_a_body_that_hears_nothing_ends_with_its_process(home: Path) -> None:
    code = SLEEPING.replace(
        "time.sleep(60)", "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG]); time.sleep(60)"
    )
    with running(home, "import signal\n" + code) as program:
        program.wait_for("begun")
        run = run_id(home)
        cancel_flow_run(run, 0.3)
        exit_code, _ = program.end()
    assert exit_code == 143
    assert state_of(home, run) == ("Cancelled", FLOW_MESSAGE)
    assert "hook of main: Cancelled" in program.lines
    assert "its process ends now" in program.errors


def test_a_process_that_does_not_answer_is_killed(home: Path) -> None:
    with running(home, SLEEPING) as program:
        program.wait_for("begun")
        run = run_id(home)
        program.hit(signal.SIGSTOP)
        assert cancel_flow_run(run, 1).is_cancelled()
        exit_code, _ = program.end()
    assert exit_code == -signal.SIGKILL
    assert state_of(home, run) == ("Cancelled", LOST)


ON_A_THREAD = """
@flow
def main():
    linger.submit().wait()

main()
"""


def test_an_owner_killed_between_cancelling_and_cancelled_leaves_a_cancelled_run(home: Path) -> None:
    with running(home, ON_A_THREAD) as program:
        program.wait_for("begun")
        run = run_id(home)
        assert cancel_flow_run(run).is_cancelling()
        assert state_of(home, run)[0] == "Cancelling"
        program.process.kill()
        program.process.wait()
        with pytest.raises(NotCancellable, match="Run is already in terminal state CANCELLED"):
            cancel_flow_run(run)
    assert state_of(home, run) == ("Cancelled", LOST)
    assert ends(home)[1] == {("linger", "Crashed", LOST): 1}
    # The answer that it gave before it died stays given.
    with store_of(home) as store:
        [request] = store.control().requests(store.flow_run(run).key)
    assert request.answer == {"state": "CANCELLING"}


def test_an_owner_that_is_gone_is_found_out_by_who_asks(home: Path) -> None:
    with running(home, SLEEPING) as program:
        program.wait_for("begun")
        run = run_id(home)
        program.process.kill()
        program.process.wait()
    with pytest.raises(NotCancellable, match="Run is already in terminal state CRASHED"):
        cancel_flow_run(run)
    assert state_of(home, run) == ("Crashed", LOST)


def test_what_was_asked_by_somebody_who_died_is_done(home: Path) -> None:
    asker = """
    import signal
    from prefect_core import history
    from prefect_core.control.asking import ask
    from prefect_core.history.sqlite.store import SqliteStore
    from pathlib import Path
    store = SqliteStore(Path(os.environ["PREFECT_CORE_HOME"]))
    row = store.flow_run("NAME")
    ask(store, row.key, "cancel", {"run": row.key, "grace_seconds": 0.5})
    os.kill(os.getpid(), signal.SIGKILL)
    """
    with running(home, SLEEPING) as program:
        program.wait_for("begun")
        run = run_id(home)
        killed = Program(home, asker.replace("NAME", run))
        assert killed.end()[0] == -signal.SIGKILL
        program.end()
    assert state_of(home, run) == ("Cancelled", FLOW_MESSAGE)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGTERM, "Execution was aborted by a termination signal."),
        (signal.SIGINT, "Execution was aborted by an interrupt signal."),
    ],
)
def test_signals_still_crash_a_run(home: Path, number: signal.Signals, message: str) -> None:
    with running(home, SLEEPING) as program:
        program.wait_for("begun")
        run = run_id(home)
        program.hit(number)
        program.end()
    assert state_of(home, run) == ("Crashed", message)


def test_a_second_request_from_elsewhere_meets_the_first(home: Path) -> None:
    with running(home, ON_A_THREAD) as program:
        program.wait_for("begun")
        run = run_id(home)
        first = Program(home, f"from prefect_core import cancel_flow_run\nsay(cancel_flow_run('{run}').name)")
        second = Program(home, f"from prefect_core import cancel_flow_run\nsay(cancel_flow_run('{run}').name)")
        for asker in (first, second):
            assert asker.end()[0] == 0, asker.errors
            assert asker.lines == ["Cancelling"]
        # And a third has less patience.
        assert cancel_flow_run(run, 0.1).is_cancelling()
        program.end()
    assert ends(home) == (
        {("main", "Cancelled", FLOW_MESSAGE): 1},
        {("linger", "Cancelled", STOPPED): 1},
    )


def test_a_subflow_in_a_worker_process_is_cancelled_with_its_task(home: Path) -> None:
    code = """
    @flow
    def inner():
        linger()

    @task
    def outer():
        inner()

    @flow(task_runner="processes:1")
    def main():
        say(outer.submit().wait().name)

    main()
    """
    with running(home, code) as program:
        program.wait_for("begun")
        run = run_id(home, "inner")
        with pytest.raises(NotCancellable, match="inside of a task in a worker process"):
            cancel_flow_run(run)
        store = SqliteStore(home)
        outer = next(str(row.id) for row in store.task_runs() if row.task_name == "outer")
        store.close()
        cancel_task_run(outer, 3)
        program.end()
    assert program.lines == ["begun", "Cancelled"]


def running_task(home: Path, task: str = "linger") -> str:
    """Return the id of the newest run of a task, once it is Running."""
    store = SqliteStore(home)
    try:
        while True:
            for row in store.task_runs(RunFilter(name=task, limit=1)):
                if row.state_name == "Running":
                    return str(row.id)
    finally:
        store.close()


def test_task_runs_outside_of_flows_are_cancelled(home: Path) -> None:
    code = """
    from prefect_core.errors import CancelledRun

    try:
        linger()
    except CancelledRun as error:
        say(str(error))
    say(linger.with_options(task_runner="processes:1", retries=2).submit().wait().message)
    say(linger.with_options(isolation="process")(return_state=True).message)
    """
    with running(home, code) as program:
        for number in range(1, 4):
            program.wait_for("begun", number)
            run = running_task(home)
            assert prefect_core("task-run", "cancel", run, "--grace-seconds", "3").returncode == 0
            program.wait_for(TASK_MESSAGE, number)
        code, _ = program.end()
    assert code == 0
    assert ends(home)[1] == {("linger", "Cancelled", TASK_MESSAGE): 3}
    with pytest.raises(NotCancellable, match="Run is already in terminal state CANCELLED"):
        cancel_task_run(run)


def test_one_of_a_process_that_does_not_answer_or_was_killed_is_told_so(home: Path) -> None:
    with running(home, "linger()") as program:
        program.wait_for("begun")
        run = running_task(home)
        program.hit(signal.SIGSTOP)
        with pytest.raises(NotCancellable, match=f"Process {program.process.pid} does not answer"):
            cancel_task_run(run, 0)
        program.process.kill()
        program.process.wait()
    with pytest.raises(NotCancellable, match="Run is already in terminal state CRASHED"):
        cancel_task_run(run)


def test_one_of_a_process_that_was_stopped_hears_it_later(home: Path) -> None:
    with running(home, "linger()") as program:
        program.wait_for("begun")
        run = running_task(home)
        program.hit(signal.SIGSTOP)
        with pytest.raises(NotCancellable):
            cancel_task_run(run, 0)
        program.hit(signal.SIGCONT)
        program.end()
    assert "CancelledRun: Task run was cancelled." in program.errors
    assert ends(home)[1] == {("linger", "Cancelled", TASK_MESSAGE): 1}


def test_one_in_a_worker_process_is_cancelled_with_the_one_around_it(home: Path) -> None:
    code = """
    @task
    def outer():
        linger()

    say(outer.with_options(task_runner="processes:1").submit().wait().name)
    """
    with running(home, code) as program:
        program.wait_for("begun")
        with pytest.raises(NotCancellable, match="inside of a task in a worker process"):
            cancel_task_run(running_task(home))
        cancel_task_run(running_task(home, "outer"), 3)
        program.end()
    assert program.lines == ["begun", "Cancelled"]


# What the documents say may go wrong. There is no agent and no infrastructure block here: who asks is whoever opens the history.


def changed(home: Path, *statements: str) -> None:
    connection = sqlite3.connect(home / "history.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_run_on_a_different_host_is_left_to_that(home: Path) -> None:
    with running(home, SLEEPING) as program:
        program.wait_for("begun")
        run = run_id(home)
        # It can't answer, and another scope is none of ours to kill in.
        program.hit(signal.SIGSTOP)
        changed(home, "UPDATE process SET host = 'elsewhere', boot_id = 'another'")
        with pytest.raises(NotCancellable) as refused:
            cancel_flow_run(run, 0)
        assert str(refused.value) == (
            f"Flow run '{run}' was unable to be cancelled. Reason: 'Unable to kill process {program.process.pid}: "
            "The process is running on a different host 'elsewhere'.'"
        )
        assert state_of(home, run)[0] == "Running"
        # The request stays: who has the run hears it.
        program.hit(signal.SIGCONT)
        program.end()
    assert state_of(home, run) == ("Cancelled", FLOW_MESSAGE)


def test_a_run_of_which_no_process_is_known_is_marked(home: Path) -> None:
    with running(home, SLEEPING) as program:
        program.wait_for("begun")
        run = run_id(home)
        program.process.kill()
        program.process.wait()
    changed(home, "DELETE FROM lease")
    assert cancel_flow_run(run).is_cancelled()
    assert state_of(home, run) == (
        "Cancelled",
        "This flow run is missing infrastructure tracking information and cancellation cannot be guaranteed.",
    )


def test_a_run_that_has_not_begun_is_cancelled_by_its_process(home: Path) -> None:
    code = """
    @flow
    def main(_):
        say("never said")

    main(linger.submit())
    """
    with running(home, code) as program:
        with history.reading() as store:
            while not (found := store.flow_runs()):
                assert program.process.poll() is None
        assert cancel_flow_run(found[0].id, 3).name in {"Cancelling", "Cancelled"}
        until(home, str(found[0].id), "Cancelled")
    assert "never said" not in program.lines
    assert ends(home)[0] == {("main", "Cancelled", FLOW_MESSAGE): 1}


BREAKING = """
from prefect_core.engine import cancelling

find, broken = cancelling._find, ["No luck"]

def find_once_broken(*args):
    if broken:
        raise ValueError(broken.pop())
    return find(*args)

cancelling._find = find_once_broken
main()
"""


def test_an_unexpected_error_is_told_and_it_may_be_asked_again(home: Path) -> None:
    code = SLEEPING.replace("\nmain()\n", BREAKING)
    with running(home, code) as program:
        program.wait_for("begun")
        run = run_id(home)
        with pytest.raises(NotCancellable, match="ValueError: No luck"):
            cancel_flow_run(run, 3)
        assert cancel_flow_run(run, 3).is_cancelling()
        program.end()
    assert state_of(home, run) == ("Cancelled", FLOW_MESSAGE)
