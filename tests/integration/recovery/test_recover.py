"""`prefect-core recover`: crashed runs that want it are run again from what was stored; real processes that are really killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prefect_core import recovering
from prefect_core.history.owed import KEEPS_CRASHING
from tests.integration.retrying import COMMAND, Flows

pytestmark = pytest.mark.slow

WORK = """
import os, signal, sys, threading
from prefect_core import flow, task

def note(word):
    with open("bodies", "a") as file:
        file.write(f"{word}\\n")

def come_here():
    if not os.path.exists("go"):
        print("waiting", flush=True)
        threading.Event().wait()

@task(persist_result=True)
def stored(x):
    note(f"stored-{x}")
    return x

@flow(on_crash="resume")
def steps(count: int):
    values = stored.map(range(count)).result()
    come_here()
    values.append(stored(count))
    note("steps")
    return sum(values)

@flow
def other():
    come_here()

@flow(on_crash="resume")
def deadly():
    note("deadly")
    os.kill(os.getpid(), signal.SIGKILL)

@flow(on_crash="resume")
def slow_but_sure():
    # Each attempt stores one value more before it kills its process.
    for number in range(6):
        if not os.path.exists(f"done-{number}"):
            stored(number)
            open(f"done-{number}", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    return "there"

@flow(on_crash="resume", validate_parameters=False)
def unheld(thing):
    come_here()

@flow(on_crash="resume")
def failing():
    come_here()
    raise ValueError("on purpose")

@flow(on_crash="resume")
def ended():
    raise SystemExit(3)
"""


@pytest.fixture
def flows(tmp_path: Path, home: Path) -> Flows:
    flows = Flows(tmp_path, home)
    flows.write(WORK)
    return flows


def recovered(flows: Flows, *options: str, code: int = 0) -> list[tuple[str, str, str]]:
    """Return what `recover` says of each run: its flow, what came of it, its state."""
    called = flows.call("recover", *options, "--json")
    assert called.returncode == code, called.stderr
    return sorted((one["flow_name"], one["outcome"], one["state"]["name"]) for one in json.loads(called.stdout)["runs"])


def test_a_crashed_run_goes_on_from_what_was_stored(flows: Flows) -> None:
    run = flows.killed("steps", "-p", "count=2")
    other = flows.killed("other")
    assert sorted(flows.bodies()) == ["stored-0", "stored-1"]
    flows.touch("go")
    assert recovered(flows, "--dry-run") == [("steps", "waiting", "Crashed")]
    assert flows.bodies() == []
    assert recovered(flows) == [("steps", "ran", "Completed")]
    # Only what was not finished.
    assert flows.bodies() == ["stored-2", "steps"]
    assert flows.state(other) == "Crashed"
    seen = flows.inspect(run)
    assert [state["name"] for state in seen["states"]] == [
        "Pending", "Running", "Crashed", "Pending", "Running", "Completed",
    ]  # fmt: skip
    assert len(seen["reopenings"]) == 1
    assert recovered(flows) == []
    assert "nothing to recover" in flows.call("recover").stderr


def test_a_run_that_is_under_way_is_left_to_its_process(flows: Flows) -> None:
    with flows.under_way("steps", "-p", "count=0"):
        assert recovered(flows) == []
        assert flows.state(flows.newest("steps")) == "Running"


def test_a_run_that_kills_its_process_three_times_is_left_alone(flows: Flows) -> None:
    run = flows.run("deadly")
    assert recovered(flows, code=1) == [("deadly", "lost", "Crashed")]
    assert recovered(flows, code=1) == [("deadly", "lost", KEEPS_CRASHING)]
    assert flows.bodies() == ["deadly"] * 3
    assert recovered(flows) == [("deadly", "left alone", KEEPS_CRASHING)]
    assert flows.bodies() == []
    state = flows.inspect(run)["state"]
    assert state["type"] == "CRASHED"
    assert "3 times in a row and without progress in between. It is left alone now" in state["message"]
    assert [row["id"] for row in flows.json("flow-run", "ls", "--state", "crashed")] == [run]
    told = flows.json("run", "why", run)["reason"]
    assert (told["kind"], told["is_left_alone"]) == ("process_lost", True)
    assert told["process"]["pid"] > 0
    assert told["last_heard"] <= told["found"] == state["timestamp"]
    # By hand it may be tried again, and what was wrong with it may be mended.
    flows.write(WORK.replace("os.kill(os.getpid(), signal.SIGKILL)", "return 1"))
    assert flows.call("flow-run", "retry", run).returncode == 0
    assert flows.state(run) == "Completed"


def test_a_run_that_ends_otherwise_in_between_begins_to_count_anew(flows: Flows) -> None:
    run = flows.run("deadly")
    assert recovered(flows, code=1) == [("deadly", "lost", "Crashed")]
    flows.write(WORK.replace("os.kill(os.getpid(), signal.SIGKILL)", "raise ValueError"))
    assert recovered(flows, code=1) == [("deadly", "ran", "Failed")]
    flows.write(WORK)
    assert flows.call("flow-run", "retry", run).returncode == -signal.SIGKILL
    assert flows.state(run) == "Crashed"


def test_a_run_that_comes_further_each_time_is_not_left_alone(flows: Flows) -> None:
    flows.run("slow_but_sure")
    for _ in range(5):
        assert recovered(flows, code=1) == [("slow-but-sure", "lost", "Crashed")]
    assert recovered(flows) == [("slow-but-sure", "ran", "Completed")]
    assert flows.bodies() == [f"stored-{number}" for number in range(6)]


def test_what_can_not_be_run_again_is_listed_with_the_reason(flows: Flows) -> None:
    flows.killed("steps", "-p", "count=0")
    script = """
import os, signal
from work import unheld
from prefect_core import flow

class Thing: pass

def main():
    @flow(on_crash="resume")
    def inside():
        os.kill(os.getpid(), signal.SIGKILL)
    if not os.fork():
        inside()
    os.wait()
    unheld(Thing())

main()
"""
    (flows.folder / "script.py").write_text(script)
    with subprocess.Popen(
        [sys.executable, "script.py"], cwd=flows.folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        process.kill()
    flows.touch("go")
    (flows.folder / "work.py").rename(flows.folder / "moved.py")
    for options in ((), ("--dry-run",)):
        called = flows.call("recover", *options)
        assert called.returncode == 1
        assert "its flow 'inside' stands in no file, or inside a function" in called.stderr
        assert "There is no file" in called.stderr
    (flows.folder / "moved.py").rename(flows.folder / "work.py")
    called = flows.call("recover")
    assert called.returncode == 1
    assert "JSON can't hold its parameter thing, and they were not stored" in called.stderr
    assert flows.state(flows.newest("steps")) == "Completed"


def test_a_file_that_can_not_be_loaded_any_more_is_a_reason(flows: Flows) -> None:
    flows.killed("steps", "-p", "count=0")
    flows.write("1 / 0")
    called = flows.call("recover")
    assert called.returncode == 1
    assert "ZeroDivisionError" in called.stderr
    assert "impossible" in called.stdout


def test_several_runs_go_on_at_once(flows: Flows) -> None:
    for count in range(3):
        flows.killed("steps", "-p", f"count={count}")
    flows.touch("go")
    assert recovered(flows, "--workers", "3") == [("steps", "ran", "Completed")] * 3


def test_one_that_fails_now_is_told_of_and_not_run_again(flows: Flows) -> None:
    flows.killed("failing")
    flows.touch("go")
    assert recovered(flows, code=1) == [("failing", "ran", "Failed")]
    assert recovered(flows) == []


def test_a_run_that_crashed_by_itself_is_run_again_too(flows: Flows) -> None:
    flows.run("ended")
    flows.write(WORK.replace("raise SystemExit(3)", "return 1"))
    assert recovered(flows) == [("ended", "ran", "Completed")]


def test_from_code_too(flows: Flows, monkeypatch: pytest.MonkeyPatch) -> None:
    flows.killed("steps", "-p", "count=1")
    flows.touch("go")
    monkeypatch.chdir(flows.folder)
    assert [(one.what, one.is_well) for one in recovering.outlook().runs] == [(recovering.WAITING, True)]
    report = recovering.recover()
    assert [(one.what, one.row.state_name) for one in report.runs] == [("ran", "Completed")]
    assert report.is_well


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_ends_the_recovery_ends_its_runs(flows: Flows, number: signal.Signals) -> None:
    flows.killed("steps", "-p", "count=0")
    process: Any = subprocess.Popen([COMMAND, "recover"], cwd=flows.folder, stderr=subprocess.PIPE, text=True)
    try:
        # The run says that it waits by way of standard error, like all that its process prints.
        while process.stderr.readline() != "waiting\n":
            pass
        process.send_signal(number)
        process.communicate(timeout=50)
        assert process.returncode in (130, 143)
    finally:
        process.kill()
    assert flows.inspect(flows.newest("steps"))["state"]["message"].startswith("Execution was aborted by")
