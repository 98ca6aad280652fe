"""Why runs of other processes are as they are: asked from beside them, while they live, are stopped, or have been killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prefect_core.input import send_input
from tests.integration.control.owners import SHORT, Owners, stop
from tests.integration.retrying import COMMAND

HOST = os.uname().nodename


@pytest.fixture
def owners(tmp_path: Path, home: Path) -> Owners:
    return Owners(tmp_path, home)


def why(run: str, **environment: str) -> Any:
    asked = subprocess.run(
        [COMMAND, "run", "why", run, "--json"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    return json.loads(asked.stdout)


def flow_run(owners: Owners, flow: str) -> str:
    with owners.history() as store:
        return next(str(row.id) for row in store.flow_runs() if row.flow_name == flow)


def test_a_run_of_another_process_is_followed_to_what_runs_there(owners: Owners) -> None:
    with owners.started("outer", lines=2) as owner:
        told = why("quick-1")
        assert told["reason"]["kind"] == "waiting_for_runs"
        assert [one["name"] for one in told["reason"]["chain"]] == ["hold-0"]
        root = told["reason"]["root"]
        assert (root["kind"], root["process"]["pid"], root["process"]["host"]) == ("running", owner.pid, HOST)
        assert (root["has_returned"], told["has_answered"]) == (False, True)
        around = why(flow_run(owners, "outer"))
        assert around["reason"]["children"] == {"Completed": 1, "Pending": 1, "Running": 2}
        owners.go()
        assert owner.wait(50) == 0
    assert why(flow_run(owners, "outer"))["state"]["type"] == "COMPLETED"


def until_it_waits_for_an_input(run: str) -> Any:
    while True:
        told = why(run)
        reason = told["reason"]
        while reason.get("root") is not None:
            reason = reason["root"]
        if reason["kind"] == "waiting_for_input":
            return {**told, "waiting": reason}


def test_a_flow_that_waits_for_an_input_says_for_which(owners: Owners) -> None:
    with owners.started("asks") as owner:
        run = flow_run(owners, "asks")
        told = until_it_waits_for_an_input(run)
        assert told["waiting"]["channels"] == ["str-auto"]
        assert told["waiting"]["flow_run"] == run
        assert told["waiting"]["until"] is not None
        assert f"for an input with the key str-auto, until {told['waiting']['until'][:4]}" in told["sentence"]
        send_input("come in", run)
        owners.go()
        assert owner.wait(50) == 0


def test_a_task_that_waits_for_an_input_to_the_flow_around_it_is_followed(owners: Owners) -> None:
    with owners.started("asks_in_a_task") as owner:
        run = flow_run(owners, "asks-in-a-task")
        owners.go()
        told = until_it_waits_for_an_input("ask-0")
        assert told["waiting"]["channels"] == ["number"]
        assert told["waiting"]["until"] is None
        assert f"for an input to {run} with the key number" in told["sentence"]
        assert until_it_waits_for_an_input(run)["waiting"]["flow_run"] == run
        send_input(3, run, key_prefix="number")
        assert owner.wait(50) == 0


def test_a_killed_process_is_named_with_when_it_was_last_heard_of(owners: Owners) -> None:
    with owners.started("outer", lines=2) as owner:
        owner.kill()
        owner.wait()
        for run in (flow_run(owners, "outer"), flow_run(owners, "inner"), "quick-1"):
            told = why(run)
            reason = told["reason"]
            assert (told["state"]["type"], reason["kind"], told["process"]) == ("CRASHED", "process_lost", None)
            assert (reason["process"]["host"], reason["process"]["pid"]) == (HOST, owner.pid)
            assert told["state"]["timestamp"] == reason["found"]
            assert reason["last_heard"] <= reason["found"]
            assert f"its process {HOST}:{owner.pid} ended without a word, last heard of at" in told["sentence"]


def test_a_stopped_process_is_asked_once_and_what_the_history_has_is_told(owners: Owners) -> None:
    with owners.started("outer", lines=2, **SHORT) as owner:
        stop(owner)
        told = why(flow_run(owners, "outer"), **SHORT)
        assert told["reason"]["kind"] == "running"
        assert told["reason"]["root"]["kind"] == "running"
        assert (told["has_answered"], told["reason"]["has_returned"]) == (False, None)
        assert told["process"]["pid"] == owner.pid
        assert f"its process {HOST}:{owner.pid} gave no answer and was last heard of" in told["sentence"]
        owner.send_signal(signal.SIGCONT)


TAGGED = """
import sys
from prefect_core import flow, task

@task(tags=["gpu"])
def train():
    print("waiting", flush=True)
    sys.stdin.readline()

@flow
def search():
    train.submit().wait()

search()
"""


def searching(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "tagged.py"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_a_limit_that_another_process_holds_is_followed_there(tmp_path: Path) -> None:
    subprocess.run([COMMAND, "limit", "create", "gpu", "1", "--tag"], check=True, capture_output=True, timeout=50)
    (tmp_path / "tagged.py").write_text(TAGGED)
    first = searching(tmp_path)
    assert first.stdout is not None
    assert first.stdout.readline() == "waiting\n"
    second = searching(tmp_path)
    try:
        told = {"reason": {"kind": ""}}
        while told["reason"]["kind"] != "limit_full":
            # Of two runs of one name, the newest is meant.
            told = why("train-0")
        reason: Any = told["reason"]
        [limit] = reason["limits"]
        assert (limit["name"], limit["holders"][0]["process"]["pid"]) == ("tag:gpu", first.pid)
        assert reason["chain"][0]["id"] == limit["holders"][0]["run_id"]
        assert (reason["root"]["kind"], reason["root"]["process"]["pid"]) == ("running", first.pid)
        first.communicate("\n", timeout=50)
        second.communicate("\n", timeout=50)
        assert (first.returncode, second.returncode) == (0, 0)
    finally:
        for one in (first, second):
            one.kill()
            one.communicate()
