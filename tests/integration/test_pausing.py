"""Pausing, suspending and resuming flow runs of other processes, and what is left of that when these are killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from prefect_core import history, pause_flow_run, resume_flow_run
from prefect_core.crash_points import VARIABLE
from prefect_core.engine.pausing import IN_A_WORKER, NOT_RESUMED
from prefect_core.errors import FlowPauseTimeout, NotAnswering, NotPausedError
from prefect_core.history.pauses import PauseRow
from prefect_core.history.requests import LOST
from prefect_core.history.rows import StateRow
from prefect_core.history.store import RunFilter
from prefect_core.input import InvalidInput
from prefect_core.settings import temporary_settings
from tests.integration.retrying import COMMAND, Flows

pytestmark = pytest.mark.slow

WORK = """
import os, sys, time
from datetime import date
from prefect_core import flow, pause_flow_run, suspend_flow_run, task
from prefect_core.input import RunInput

def note(word):
    with open("bodies", "a") as file:
        file.write(word + "\\n")

@task(persist_result=True)
def stored(x):
    note(f"stored-{x}")
    return x * 10

@task
def loose(x):
    note(f"loose-{x}")
    return x

class Approval(RunInput):
    approved: bool
    day: date = date(2026, 1, 1)

@flow
def holding():
    value = stored(1)
    print("waiting", flush=True)
    pause_flow_run(timeout=None)
    return value + loose(2)

@flow
def long_running():
    value = stored(1)
    print("waiting", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.002)
    return value + loose(2)

@flow
def approving():
    value = stored(1)
    approval = suspend_flow_run(wait_for_input=Approval, key="approval")
    return f"{value} {approval.approved} {approval.day.year}"

@flow
def brief():
    stored(1)
    suspend_flow_run(timeout=0)

TURNS = 3

@flow
def waking():
    print("waiting", flush=True)
    woken = []
    for _ in range(TURNS):
        pause_flow_run(timeout=None)
        woken.append(time.monotonic())
    return woken

@flow
async def awaking():
    print("waiting", flush=True)
    woken = []
    for _ in range(TURNS):
        await pause_flow_run(timeout=None)
        woken.append(time.monotonic())
    return woken

@task
def lingering(number):
    time.sleep(0.1)
    return number

@flow
def crowded():
    futures = lingering.map(range(24))
    futures[0].wait()
    print("waiting", flush=True)
    return sum(futures.result())

@flow
def inner():
    value = loose(30)
    print("waiting", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.002)
    return value + loose(4)

@task
def calling(where):
    return inner()

@flow
def around(where: str):
    if where == "here":
        return inner()
    if where == "task":
        return calling(where)
    return calling.submit(where).result()

@flow
def pauser():
    pause_flow_run(timeout=None)

@task
def pausing():
    try:
        pauser()
    except RuntimeError as error:
        return str(error)

@flow
def pausing_afar():
    return pausing.submit().result()

@flow
async def alone(x: int):
    pass
"""


@pytest.fixture
def flows(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Flows:
    made = Flows(tmp_path, home)
    made.write(WORK)
    monkeypatch.chdir(tmp_path)
    return made


@contextmanager
def under_way(flows: Flows, flow: str, *options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a flow that prints a line when it has come to where it waits; what it prints last is its result."""
    process = subprocess.Popen(
        [COMMAND, "run", f"work.py:{flow}", "--json", *options],
        cwd=flows.folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line == "waiting\n":
                break
        yield process
    finally:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str]) -> Any:
    out, errors = process.communicate(timeout=50)
    assert out, errors
    return json.loads(out)


def await_state(flows: Flows, run: str, *names: str) -> str:
    """Wait until a run is in one of these states."""
    while (state := flows.state(run)) not in names:
        assert state in {"Pending", "Running", "Paused"}
    return state


def retried_and_resumed(flows: Flows, run: str) -> Any:
    """Retry a run that pauses again, resume it there, and return what its process says in the end."""
    with subprocess.Popen(
        [COMMAND, "flow-run", "retry", run, "--json"],
        cwd=flows.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while flows.state(run) != "Paused":
                assert process.poll() is None
            assert flows.call("flow-run", "resume", run).returncode == 0
            return end(process)
        finally:
            process.kill()


def await_pause(run: UUID, count: int) -> None:
    """Wait until a run has been paused so often, and is."""
    store = history.open_store()
    try:
        row = store.flow_run(str(run))
        while [state.name for state in store.states(row.key)].count("Paused") < count:
            time.sleep(0.005)
    finally:
        store.close()


def newest(name: str) -> UUID:
    store = history.open_store()
    try:
        return store.flow_runs(RunFilter(name=name, limit=1))[0].id
    finally:
        store.close()


def states_of(run: str) -> list[StateRow]:
    store = history.open_store()
    try:
        return store.states(store.flow_run(run).key)
    finally:
        store.close()


def pauses_of(run: str) -> list[PauseRow]:
    store = history.open_store()
    try:
        return store.control().pauses(store.flow_run(run).key)
    finally:
        store.close()


def test_a_flow_that_waits_is_resumed_by_the_command(flows: Flows) -> None:
    with under_way(flows, "holding") as process:
        run = flows.newest("holding")
        await_state(flows, run, "Paused")
        assert flows.call("flow-run", "resume", run).returncode == 0
        ended = end(process)
    assert (ended["result"], ended["run_count"]) == (12, 1)
    assert [state.name for state in states_of(run)] == ["Pending", "Running", "Paused", "Running", "Completed"]


@pytest.mark.parametrize("flow", ["waking", "awaking"])
def test_a_flow_that_waits_goes_on_within_half_a_second_of_a_resume_from_another_process(
    flows: Flows, flow: str
) -> None:
    asked = []
    with under_way(flows, flow) as process:
        run = newest(flow)
        for turn in range(3):
            await_pause(run, turn + 1)
            # The monotonic clock is that of the machine.
            asked.append(time.monotonic())
            resume_flow_run(run)
        woken = end(process)["result"]
    # The best of some: others use this machine.
    assert min(there - here for here, there in zip(asked, woken, strict=True)) < 0.5


def test_a_flow_is_paused_by_the_command_and_goes_on_where_it_was(flows: Flows) -> None:
    with under_way(flows, "long_running") as process:
        run = flows.newest("long_running")
        called = flows.call("flow-run", "pause", run)
        assert "is paused." in called.stderr
        assert flows.state(run) == "Paused"
        flows.touch("go")
        again = flows.call("flow-run", "pause", run)
        assert "Flow run cannot be paused: Cannot pause flows that are not currently running." in again.stderr
        assert flows.bodies() == ["stored-1"]
        flows.call("flow-run", "resume", run)
        assert end(process)["result"] == 12
    assert flows.bodies() == ["loose-2"]


def test_a_flow_is_suspended_by_the_command_and_resumed_in_another_process(flows: Flows) -> None:
    with under_way(flows, "long_running") as process:
        run = flows.newest("long_running")
        assert "is suspended." in flows.call("flow-run", "pause", run, "--suspend").stderr
        flows.touch("go")
        ended = end(process)
    assert (ended["exit_code"], ended["state"]["name"]) == (0, "Suspended")
    resumed = flows.json("flow-run", "resume", run)
    assert (resumed["result"], resumed["exit_code"], resumed["run_count"]) == (12, 0, 2)
    assert flows.bodies() == ["stored-1", "loose-2"]
    names = [state.name for state in states_of(run)]
    assert names == ["Pending", "Running", "Suspended", "Resuming", "Running", "Completed"]


def test_resuming_from_code_starts_a_process_that_outlives_this_one(flows: Flows) -> None:
    run = flows.run("approving")
    with pytest.raises(InvalidInput, match="approved: Field required"):
        resume_flow_run(run)
    with pytest.raises(InvalidInput, match="day: Input should be a valid date"):
        resume_flow_run(run, {"approved": True, "day": "soon"})
    assert flows.state(run) == "Suspended"
    resume_flow_run(run, {"approved": True, "day": "2027-02-03"})
    with pytest.raises(NotPausedError, match=r"Cannot resume a run that isn't paused!"):
        resume_flow_run(run, {"approved": True})
    while flows.state(run) in {"Resuming", "Running"}:
        pass
    assert flows.state(run) == "Completed"
    assert flows.bodies() == ["stored-1"]


def test_a_form_is_filled_in_at_the_command_and_asked_again_when_wrong(flows: Flows) -> None:
    run = flows.run("approving")
    wrong = flows.call("flow-run", "resume", run, "-i", "approved=perhaps")
    assert (wrong.returncode, wrong.stderr.strip().splitlines()[-1]) == (
        1,
        "Error: Reason: approved: Input should be a valid boolean, unable to interpret input",
    )
    assert flows.state(run) == "Suspended"
    right = flows.json("flow-run", "resume", run, "-i", "approved=true")
    assert right["result"] == "10 True 2026"
    assert flows.bodies() == ["stored-1"]
    assert "isn't paused" in flows.call("flow-run", "resume", run).stderr


def test_whoever_looks_fails_what_was_not_resumed_in_time(flows: Flows) -> None:
    run = flows.run("brief")
    inspected = flows.inspect(run)
    assert inspected["state"]["name"] == "Failed"
    assert inspected["state"]["message"] == "The flow was paused and never resumed."
    with pytest.raises(FlowPauseTimeout, match="Flow run can no longer be resumed"):
        resume_flow_run(run)
    flows.call("flow-run", "retry", run)
    # A failed run pauses again.
    assert [state.name for state in states_of(run)].count("Suspended") == 2


def test_a_flow_that_waits_and_is_killed_crashes_and_can_be_retried(flows: Flows) -> None:
    with under_way(flows, "holding") as process:
        run = flows.newest("holding")
        await_state(flows, run, "Paused")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert flows.state(run) == "Crashed"
    assert "isn't paused" in flows.call("flow-run", "resume", run).stderr
    assert flows.bodies() == ["stored-1"]
    assert retried_and_resumed(flows, run)["result"] == 12
    assert flows.bodies() == ["loose-2"]


def test_what_was_given_is_kept_when_the_run_crashes(flows: Flows) -> None:
    run = flows.run("approving")
    killed = flows.call("flow-run", "resume", run, "-i", "approved=true", **{VARIABLE: "engine.flush.after:1"})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert flows.state(run) == "Crashed"
    assert flows.json("flow-run", "retry", run)["result"] == "10 True 2026"
    assert flows.bodies() == ["stored-1"]


POINTS = {
    "pause.begin.before": {"Crashed"},
    "pause.begin.after": {"Suspended"},
    "pause.enter.before": {"Crashed"},
    # Recorded, and written at any moment from then on.
    "pause.enter.after": {"Crashed", "Suspended"},
    "pause.left.before": {"Suspended"},
    "pause.left.after": {"Suspended"},
}
"""The steps of suspending a run at which its process is killed, and what the run may be then."""


@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_between_asked_and_left_leaves_a_run_that_goes_on(flows: Flows, point: str) -> None:
    with under_way(flows, "long_running", **{VARIABLE: point}) as process:
        run = flows.newest("long_running")
        asking = subprocess.Popen(
            [COMMAND, "flow-run", "pause", run, "--suspend"], stderr=subprocess.PIPE, text=True, cwd=flows.folder
        )
        if "left" not in point:
            process.wait(50)
        _, said = asking.communicate(timeout=50)
        flows.touch("go")
        process.wait(50)
    assert process.returncode == -signal.SIGKILL
    was_accepted = "is suspended." in said
    assert was_accepted or LOST in said
    state = flows.state(run)
    assert state == ("Suspended" if was_accepted else state)
    assert state in POINTS[point]
    ended = flows.json("flow-run", "resume" if state == "Suspended" else "retry", run)
    assert (ended["state"]["name"], ended["result"]) == ("Completed", 12)
    bodies = flows.bodies()
    assert set(bodies) == {"loose-2", "stored-1"}
    assert bodies.count("stored-1") == 1


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_process_killed_while_it_claims_a_suspended_run_leaves_one_that_goes_on(flows: Flows, side: str) -> None:
    run = flows.run("approving")
    killed = flows.call("flow-run", "resume", run, "-i", "approved=true", **{VARIABLE: f"pause.claim.{side}"})
    assert killed.returncode == -signal.SIGKILL
    # Not committed in either case.
    assert flows.state(run) == "Suspended"
    assert flows.json("flow-run", "resume", run, "-i", "approved=true")["result"] == "10 True 2026"
    assert flows.bodies() == ["stored-1"]


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_process_killed_while_it_is_let_go_on_leaves_a_run_that_can_be_retried(flows: Flows, side: str) -> None:
    with under_way(flows, "holding", **{VARIABLE: f"pause.go_on.{side}"}) as process:
        run = flows.newest("holding")
        await_state(flows, run, "Paused")
        refused = flows.call("flow-run", "resume", run)
        assert process.wait(50) == -signal.SIGKILL
    assert "isn't paused" in refused.stderr
    assert flows.state(run) == "Crashed"
    assert retried_and_resumed(flows, run)["result"] == 12
    assert flows.bodies() == ["stored-1", "loose-2"]


ASKER = """
import os, signal, sys
from prefect_core import history
from prefect_core.control.asking import ask_about

store = history.open_store()
run = store.flow_run(sys.argv[1])
ask_about(store, run, "pause", {"timeout_seconds": None, "key": None, "reschedule": False, "verb": "pause"})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_pause_that_was_asked_for_by_somebody_who_died_is_made(flows: Flows) -> None:
    with under_way(flows, "long_running") as process:
        run = flows.newest("long_running")
        asker = subprocess.run([sys.executable, "-c", ASKER, run], timeout=50, check=False)
        assert asker.returncode == -signal.SIGKILL
        await_state(flows, run, "Paused")
        flows.touch("go")
        assert flows.call("flow-run", "resume", run).returncode == 0
        assert end(process)["result"] == 12


@pytest.mark.parametrize("runner", ["concurrent:2", "processes:2", "sequential"])
def test_no_body_begins_after_paused_was_recorded(flows: Flows, runner: str) -> None:
    if runner == "sequential":
        # All have ended when the flow gets to say that it waits: a body says so.
        flows.write(WORK.replace("time.sleep(0.1)", "time.sleep(0.1); number or print('waiting', flush=True)"))
    with under_way(flows, "crowded", "--task-runner", runner) as process:
        run = str(newest("crowded"))
        pause_flow_run(flow_run_id=run)
        paused = states_of(run)[-1]
        assert (paused.name, paused.message) == ("Paused", None)
        assert flows.call("flow-run", "resume", run).returncode == 0
        assert end(process)["result"] == sum(range(24))
    resumed = states_of(run)[3]
    store = history.open_store()
    try:
        starts = sorted(row.started_us or 0 for row in store.task_runs())
        messages = [state.message for row in store.task_runs() for state in store.states(row.key)]
    finally:
        store.close()
    assert len(starts) == 24
    assert [start for start in starts if paused.timestamp_us < start < resumed.timestamp_us] == []
    assert sum(start < paused.timestamp_us for start in starts) < 24
    assert set(messages) == {None}


def test_a_subflow_in_a_worker_process_cant_be_paused_by_itself(flows: Flows) -> None:
    with under_way(flows, "around", "-p", "where=worker", "--task-runner", "processes:1") as process:
        while not flows.json("flow-run", "ls", "--flow", "inner", "--state", "running"):
            # What a worker did is heard of a moment later.
            assert process.poll() is None
        run, outer = flows.newest("inner"), flows.newest("around")
        with pytest.raises(
            RuntimeError, match=f"It runs in a worker process.* Pause the flow run that it is in: .*{outer}"
        ):
            pause_flow_run(flow_run_id=run)
        called = flows.call("flow-run", "pause", run, "--suspend")
        assert (called.returncode, flows.state(run)) == (1, "Running")
        assert "Flow run cannot be suspended: It runs in a worker process" in called.stderr
        assert flows.call("flow-run", "pause", outer).returncode == 0
        assert flows.call("flow-run", "resume", outer).returncode == 0
        flows.touch("go")
        assert end(process)["result"] == 34


@pytest.mark.parametrize("where", ["here", "task", "thread"])
def test_a_subflow_in_the_process_of_its_flow_is_paused_and_resumed_alone(flows: Flows, where: str) -> None:
    with under_way(flows, "around", "-p", f"where={where}") as process:
        run, outer = flows.newest("inner"), flows.newest("around")
        pause_flow_run(flow_run_id=run)
        assert (flows.state(run), flows.state(outer)) == ("Paused", "Running")
        flows.touch("go")
        resume_flow_run(run)
        assert end(process)["result"] == 34
    assert [state.name for state in states_of(run)] == ["Pending", "Running", "Paused", "Running", "Completed"]


def test_a_flow_in_a_worker_process_is_told_that_it_cant_pause(flows: Flows) -> None:
    ended = flows.json("run", "work.py:pausing_afar", "--task-runner", "processes:1")
    assert ended["result"] == f"Flow run cannot be paused: {IN_A_WORKER}"


OUTSIDE = """
import sys
from work import calling

if __name__ == "__main__":
    print(calling.with_options(task_runner=sys.argv[1]).submit("").result())
"""


@pytest.mark.parametrize("runner", ["processes:1", "concurrent"])
def test_a_flow_that_a_task_outside_of_flows_calls_is_paused_where_it_is_in_that_process(
    flows: Flows, runner: str
) -> None:
    (flows.folder / "outside.py").write_text(OUTSIDE)
    process = subprocess.Popen([sys.executable, "outside.py", runner], stdout=subprocess.PIPE, text=True)
    try:
        while not flows.json("flow-run", "ls", "--flow", "inner", "--state", "running"):
            assert process.poll() is None
        run = flows.newest("inner")
        if runner == "concurrent":
            pause_flow_run(flow_run_id=run)
            assert flows.state(run) == "Paused"
            resume_flow_run(run)
        else:
            with pytest.raises(
                RuntimeError, match=r"It runs in a worker process, where it can't be paused by itself\.$"
            ):
                pause_flow_run(flow_run_id=run)
        flows.touch("go")
        out, _ = process.communicate(timeout=50)
        assert out.split() == ["waiting", "34"]
    finally:
        process.kill()
        process.communicate()


@contextmanager
def stopped(process: subprocess.Popen[str]) -> Iterator[None]:
    """Stop a process for the length of the block, as a debugger or Ctrl-Z does."""
    process.send_signal(signal.SIGSTOP)
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        pass
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def test_who_asks_a_process_that_is_stopped_is_told_so_and_nothing_comes_of_it(flows: Flows) -> None:
    def refused(*arguments: str) -> str:
        called = flows.call("flow-run", *arguments, PREFECT_CORE_CANCEL_GRACE_SECONDS="0")
        assert called.returncode == 1
        return called.stderr

    with under_way(flows, "long_running") as process:
        run = flows.newest("long_running")
        silent = f"Its process ({os.uname().nodename}:{process.pid}) has not answered within 1 s"
        with stopped(process):
            told = refused("pause", run)
        assert f"could not be paused. {silent}" in told
        assert f"`prefect-core flow-run cancel {run}`" in told
        # It has heard of the first by then, too.
        pause_flow_run(flow_run_id=run, key="second")
        message = re.escape(f"could not be resumed. {silent}")
        with stopped(process), temporary_settings(cancel_grace_seconds=0), pytest.raises(NotAnswering, match=message):
            resume_flow_run(run)
        flows.touch("go")
        resume_flow_run(run)
        assert end(process)["result"] == 12
    assert [state.name for state in states_of(run)] == ["Pending", "Running", "Paused", "Running", "Completed"]
    assert [pause.key for pause in pauses_of(run)] == ["second"]


def test_a_pause_of_the_command_has_a_time_limit_and_a_key(flows: Flows) -> None:
    with under_way(flows, "long_running") as process:
        run = flows.newest("long_running")
        assert flows.call("flow-run", "pause", run, "--key", "audit", "--timeout", "0.1").returncode == 0
        await_state(flows, run, "Running")
        flows.touch("go")
        ended = end(process)
    assert ended["state"]["message"] == "Flow run encountered an exception: FlowPauseTimeout: " + NOT_RESUMED
    assert [pause.key for pause in pauses_of(run)] == ["audit"]
    assert flows.inspect(run)["states"][2]["details"]["pause_key"] == "audit"
    assert flows.bodies() == ["stored-1"]


def test_a_resume_of_a_held_run_prints_it_as_json(flows: Flows) -> None:
    with under_way(flows, "long_running") as process:
        run = flows.newest("long_running")
        pause_flow_run(flow_run_id=run)
        resumed = flows.json("flow-run", "resume", run)
        assert (resumed["id"], resumed["state"]["name"]) == (run, "Running")
        assert (resumed["result"], resumed["exit_code"]) == (None, 0)
        flows.touch("go")
        assert end(process)["result"] == 12
