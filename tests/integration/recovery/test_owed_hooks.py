"""Hooks that a process could not call: somebody else does, once, whatever is killed when."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from prefect_core import cancel_flow_run
from tests.integration.retrying import COMMAND, Flows

pytestmark = pytest.mark.slow

WORK = """
import os, signal, threading
from prefect_core import flow, suspend_flow_run, task

def note(*words):
    with open("bodies", "a") as file:
        file.write("/".join(map(str, words)) + "\\n")

def come_here():
    if not os.path.exists("go"):
        print("waiting", flush=True)
        threading.Event().wait()

def hook(flow, run, state):
    around = run.parent_flow_run.name if run.parent_flow_run else None
    note("sync", flow.name, run.name, state.name, state.is_final(), around)

async def async_hook(flow, run, state):
    note("async", flow.name, run.name, state.name)

HOOKS = dict(on_failure=[hook], on_crashed=[hook, async_hook], on_cancellation=[hook])

@flow(flow_run_name="failing", **HOOKS)
def failing():
    raise ValueError("on purpose")

@flow(flow_run_name="killed", **HOOKS)
def killed():
    come_here()

@flow(flow_run_name="inner", on_crashed=[hook])
def inner():
    come_here()

@flow(flow_run_name="outer")
def outer():
    inner()

@flow(flow_run_name="clumsy", on_crashed=[lambda *_: exit(5), hook])
def clumsy():
    come_here()

@flow(flow_run_name="plain", on_completion=[hook])
def plain():
    come_here()

@task
def in_worker(how):
    return in_task(how)

@flow(flow_run_name="within", on_crashed=[hook], on_failure=[hook])
def in_task(how: str):
    if os.path.exists("go"):
        return
    if how == "fails":
        raise ValueError("on purpose")
    with open("worker", "w") as file:
        file.write(str(os.getpid()))
    print("waiting", flush=True)
    threading.Event().wait()

@flow(task_runner="processes:1")
def of_worker(how: str):
    in_worker.submit(how).wait()

@flow(flow_run_name="suspending", task_runner="processes:1")
def suspending():
    in_worker.submit("waits").wait()
    suspend_flow_run(timeout=None)

@task
def on_a_thread():
    come_here()

@flow(flow_run_name="cancelled", **HOOKS)
def cancelled():
    on_a_thread.submit().wait()

def count_me(task, run, state):
    note("of-task", state.name)

@task(on_failure=[count_me])
def fails():
    raise ValueError("on purpose")

@flow(flow_run_name="of tasks")
def of_tasks():
    fails(return_state=True)
    come_here()
"""


@pytest.fixture
def flows(tmp_path: Path, home: Path) -> Flows:
    flows = Flows(tmp_path, home)
    flows.write(WORK)
    return flows


def crash(flows: Flows, flow: str, point: str) -> str:
    """Run a flow that is killed at a point of ours, and return the id of its run."""
    called = flows.call("run", f"work.py:{flow}", PREFECT_CORE_CRASH_AT=point)
    assert called.returncode == -signal.SIGKILL, called.stderr
    return flows.newest(flow)


def listed(flows: Flows, *options: str) -> list[tuple[str, str, str]]:
    return [
        (one["flow_name"], one["state"]["name"], one["outcome"]) for one in flows.json("recover", *options)["hooks"]
    ]


def test_the_hooks_of_a_killed_run_are_called_once_by_who_recovers(flows: Flows) -> None:
    run = flows.killed("killed")
    # A listing loads nothing of the user's.
    flows.write("1 / 0")
    assert flows.state(run) == "Crashed"
    assert listed(flows, "--dry-run") == [("killed", "Crashed", "owed")]
    assert listed(flows) == [("killed", "Crashed", "impossible")]
    flows.write(WORK)
    assert listed(flows) == [("killed", "Crashed", "called")]
    assert flows.bodies() == ["sync/killed/killed/Crashed/True/None", "async/killed/killed/Crashed"]
    assert listed(flows) == []
    assert flows.bodies() == []
    assert flows.state(run) == "Crashed"


def test_a_run_that_is_run_again_has_them_called_before(flows: Flows) -> None:
    run = flows.killed("killed")
    flows.touch("go")
    assert flows.call("flow-run", "retry", run).returncode == 0
    assert flows.bodies() == ["sync/killed/killed/Crashed/True/None", "async/killed/killed/Crashed"]
    assert flows.state(run) == "Completed"
    assert listed(flows) == []


def test_the_hooks_of_a_run_inside_another_are_called_too(flows: Flows) -> None:
    run = flows.killed("outer")
    flows.touch("go")
    assert flows.call("flow-run", "retry", run).returncode == 0
    assert flows.bodies() == ["sync/inner/inner/Crashed/True/outer"]


def test_a_suspended_run_that_is_resumed_has_those_of_the_runs_inside_called_before(flows: Flows) -> None:
    with flows.under_way("outer") as process:
        run = flows.newest("outer")
        assert flows.call("flow-run", "pause", run, "--suspend").returncode == 0
        process.kill()
        process.wait()
    assert flows.state(run) == "Suspended"
    flows.touch("go")
    assert flows.call("flow-run", "resume", run).returncode == 0
    assert flows.state(run) == "Completed"
    assert flows.bodies() == ["sync/inner/inner/Crashed/True/outer"]
    assert listed(flows) == []


def test_the_hooks_of_a_run_that_was_killed_while_it_was_cancelled_are_called_by_who_recovers(flows: Flows) -> None:
    with flows.under_way("cancelled") as process:
        run = flows.newest("cancelled")
        assert cancel_flow_run(run).is_cancelling()
        process.kill()
        process.wait()
    assert flows.bodies() == []
    assert flows.state(run) == "Cancelled"
    assert listed(flows) == [("cancelled", "Cancelled", "called")]
    assert flows.bodies() == ["sync/cancelled/cancelled/Cancelled/True/None"]
    assert listed(flows) == []
    assert flows.bodies() == []


@pytest.mark.parametrize(
    ("point", "is_owed", "called"),
    [
        # The state is committed, and nothing claimed.
        ("engine.claim.before", True, 1),
        # Claimed: nobody else may call them.
        ("engine.claim.after", False, 0),
        ("engine.hook.after", False, 1),
    ],
)
def test_who_is_killed_on_the_way_to_its_hooks_owes_them_until_they_are_claimed(
    flows: Flows, point: str, is_owed: bool, called: int
) -> None:
    run = crash(flows, "failing", point)
    assert flows.state(run) == "Failed"
    assert listed(flows) == ([("failing", "Failed", "called")] if is_owed else [])
    assert flows.bodies() == ["sync/failing/failing/Failed/True/None"] * called
    assert listed(flows) == []


@pytest.mark.parametrize("point", ["owed_hooks.call.before", "owed_hooks.call.after"])
def test_who_is_killed_while_it_recovers_has_called_them_once_at_most(flows: Flows, point: str) -> None:
    flows.killed("killed")
    assert flows.call("recover", PREFECT_CORE_CRASH_AT=point).returncode == -signal.SIGKILL
    assert listed(flows) == []
    assert len(flows.bodies()) == (0 if point.endswith("before") else 2)


def test_of_many_who_recover_at_once_one_calls_them(flows: Flows) -> None:
    for _ in range(3):
        flows.killed("killed")
    together = [subprocess.Popen([COMMAND, "recover"], cwd=flows.folder, stderr=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(timeout=50) for process in together] == [0] * 4
    assert sorted(flows.bodies()) == ["async/killed/killed/Crashed"] * 3 + ["sync/killed/killed/Crashed/True/None"] * 3


def test_hooks_that_have_been_called_are_not_owed(flows: Flows) -> None:
    run = flows.run("failing")
    assert flows.bodies() == ["sync/failing/failing/Failed/True/None"]
    assert listed(flows) == []
    assert flows.call("flow-run", "retry", run).returncode == 1
    assert flows.bodies() == ["sync/failing/failing/Failed/True/None"]


def test_a_hook_that_fails_or_exits_is_not_called_again(flows: Flows) -> None:
    run = flows.killed("clumsy")
    assert listed(flows) == [("clumsy", "Crashed", "called")]
    assert flows.bodies() == []
    assert listed(flows) == []
    assert "A hook asked Python to exit" in flows.call("flow-run", "logs", run).stdout


def test_hooks_of_a_run_in_a_worker_are_called_there(flows: Flows) -> None:
    flows.run("of_worker", "-p", "how=fails")
    assert len(flows.bodies()) == 1
    assert listed(flows) == []
    assert flows.bodies() == []


def await_running_in_worker(flows: Flows) -> None:
    # What a worker tells comes a moment later.
    while [run["state"]["name"] for run in flows.json("flow-run", "ls", "--flow", "in-task")] != ["Running"]:
        pass


def test_hooks_of_a_run_in_a_worker_are_owed_when_that_is_lost(flows: Flows) -> None:
    with flows.under_way("of_worker", "-p", "how=waits") as process:
        await_running_in_worker(flows)
        os.kill(int((flows.folder / "worker").read_text()), signal.SIGKILL)
        process.wait()
    assert flows.bodies() == []
    assert listed(flows) == [("in-task", "Crashed", "called")]
    assert len(flows.bodies()) == 1


def test_hooks_of_a_run_in_a_worker_are_owed_when_all_are_lost(flows: Flows) -> None:
    with flows.under_way("of_worker", "-p", "how=waits") as process:
        await_running_in_worker(flows)
        process.kill()
        process.wait()
    assert listed(flows) == [("in-task", "Crashed", "called")]
    assert len(flows.bodies()) == 1


def test_a_suspended_run_that_is_resumed_has_the_hooks_called_that_are_owed_in_it(flows: Flows) -> None:
    with flows.under_way("suspending") as process:
        await_running_in_worker(flows)
        os.kill(int((flows.folder / "worker").read_text()), signal.SIGKILL)
        process.wait()
    run = flows.newest("suspending")
    assert flows.state(run) == "Suspended"
    assert flows.bodies() == []
    flows.touch("go")
    resumed = flows.call("flow-run", "resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert flows.bodies() == ["sync/in-task/within/Crashed/True/suspending"]
    assert flows.state(run) == "Completed"
    assert listed(flows) == []


def test_only_hooks_of_the_state_that_came_are_owed(flows: Flows) -> None:
    flows.killed("plain")
    assert listed(flows) == []


def test_hooks_of_tasks_end_with_their_process_and_come_again_with_the_task(flows: Flows) -> None:
    run = flows.killed("of_tasks")
    assert flows.bodies() == ["of-task/Failed"]
    assert listed(flows) == []
    flows.touch("go")
    flows.call("flow-run", "retry", run)
    assert flows.bodies() == ["of-task/Failed"]
