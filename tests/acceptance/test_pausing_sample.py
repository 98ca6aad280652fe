"""The samples of docs/pausing.md: the flows run as they stand there, by the commands that stand there, in processes of their own."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from prefect_core import history
from prefect_core.history.store import RunFilter
from tests.integration.retrying import COMMAND

DOCUMENT = (Path(__file__).parents[2] / "docs" / "pausing.md").read_text(encoding="utf-8")
WEATHER, TALK = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
COMMANDS, _IN_A_WORKER, REFUSED, TALKING = re.findall(r"```console\n(.*?)```", DOCUMENT, re.DOTALL)
NAMED = "calm-otter"


def commands(console: str, run: str = NAMED) -> list[list[str]]:
    """Return the commands of a sample, about a run of another name."""
    lines = re.findall(r"^\$ prefect-core (.*)$", console.replace(NAMED, run), re.MULTILINE)
    return [[COMMAND, *shlex.split(line)] for line in lines]


def call(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=False)


def newest(flow: str, *states: str) -> str | None:
    """Return the name of the newest run of a flow that is in one of these states."""
    with history.reading() as store:
        rows = store.flow_runs(RunFilter(name=flow, state_types=states, limit=1))
        return rows[0].name if rows else None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "weather.py").write_text(WEATHER, encoding="utf-8")
    (tmp_path / "talk.py").write_text(TALK, encoding="utf-8")
    return tmp_path


def test_a_forecast_waits_for_approval_and_goes_on(folder: Path) -> None:
    run, _ = commands(COMMANDS)
    assert call(folder, run).returncode == 0
    name = newest("publish", "PAUSED")
    assert name is not None
    [refused] = commands(REFUSED, name)
    answer = call(folder, refused)
    assert (answer.returncode, answer.stderr) == (1, REFUSED.splitlines()[1] + "\n")
    _, resume = commands(COMMANDS, name)
    resumed: Any = json.loads(call(folder, [*resume, "--json"]).stdout)
    assert (resumed["state"]["name"], resumed["result"], resumed["run_count"]) == ("Completed", 21.5, 2)
    with history.reading() as store:
        assert [len(store.attempts(row.key)) for row in store.task_runs(RunFilter(name="forecast"))] == [1]


def test_two_flows_talk_to_each_other(folder: Path) -> None:
    greet, _ = commands(TALKING)
    greeter = subprocess.Popen([*greet, "--json"], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        while (name := newest("greeter", "RUNNING")) is None:
            assert greeter.poll() is None
        _, ask = commands(TALKING, name)
        asked = call(folder, ask)
        assert asked.returncode == 0, asked.stderr
        said, _ = greeter.communicate(timeout=50)
    finally:
        greeter.kill()
        greeter.wait()
    spoken = [line for line in (asked.stdout + asked.stderr).splitlines() if line.startswith("Hello")]
    assert spoken == ["Hello, Ada!", "Hello, Grace!"]
    assert json.loads(said)["result"] == 2
