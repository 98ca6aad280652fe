"""What drops results, and flows that store them, killed in between: nothing that is still named is lost, and nothing stays behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.integration.retrying import Flows

pytestmark = pytest.mark.slow

WORK = """
from prefect_core import flow, task

@task(persist_result=True)
def large(x):
    return str(x) * 20_000

@flow
def storing(n: int = 5):
    large.map(range(n)).result()

@flow
def failing(n: int = 5):
    large.map(range(n)).result()
    raise ValueError("on purpose")
"""

PRUNE = ("results", "prune", "--keep-total", "0")


@pytest.fixture
def flows(tmp_path: Path, home: Path) -> Flows:
    made = Flows(tmp_path, home)
    made.write(WORK)
    return made


def objects(flows: Flows) -> set[str]:
    storage = flows.home / "storage"
    return {str(file.relative_to(storage)) for file in storage.rglob("*") if file.is_file()}


def named(flows: Flows) -> set[str]:
    return {row["object"] for row in flows.json("results", "ls")}


@pytest.mark.parametrize(
    "point", ["history.begun", "history.before_commit", "history.after_commit", "sweep.deleted:1", "sweep.deleted:3"]
)
@pytest.mark.parametrize(
    "command", [PRUNE, ("db", "prune", "--older-than", "2100-01-01"), ("flow-run", "delete", "RUN")]
)
def test_dropping_that_is_killed_loses_nothing_and_the_next_goes_on(
    flows: Flows, point: str, command: tuple[str, ...]
) -> None:
    run = flows.run("storing")
    arguments = [run if word == "RUN" else word for word in command]
    before = objects(flows)
    assert len(before) == 5
    assert flows.call(*arguments, PREFECT_CORE_CRASH_AT=point).returncode == -signal.SIGKILL
    checked = flows.call("db", "check", "--objects")
    assert checked.returncode == 0, checked.stdout
    assert named(flows) <= objects(flows)
    for again in (command[:1] == ("flow-run",) and bool(flows.json("flow-run", "ls")) and arguments, PRUNE):
        if again:
            assert flows.call(*again).returncode == 0
    assert objects(flows) == named(flows) == set()
    assert flows.json("db", "stats")["results"]["objects_to_delete"] == 0


@pytest.mark.parametrize("point", ["history.before_commit:2", "history.after_commit", "sweep.deleted:2"])
def test_a_flow_whose_pruning_was_killed_is_retried(flows: Flows, point: str) -> None:
    run = flows.run("failing")
    flows.call(*PRUNE, PREFECT_CORE_CRASH_AT=point)
    flows.call("flow-run", "retry", run)
    assert named(flows) <= objects(flows)
    assert len(named(flows)) == 5
    # What was doomed before the run made it anew is another object.
    assert flows.call("db", "prune", "--older-than", "30d").returncode == 0
    assert objects(flows) == named(flows)
    assert flows.call("db", "check", "--objects").returncode == 0


@pytest.mark.parametrize(
    "point", ["storage.after_fsync", "storage.after_rename", "storage.after_folder", "keeping.before_state"]
)
def test_what_a_killed_flow_left_in_the_storage_is_found_an_hour_later(flows: Flows, point: str) -> None:
    left: set[str] = set()
    rounds = 0
    while not left:
        # A run that was recorded, and its attempt not yet, is retried under the same name, and leaves nothing.
        rounds += 1
        assert rounds <= 10
        called = flows.call("run", "work.py:storing", PREFECT_CORE_CRASH_AT=point)
        assert called.returncode == -signal.SIGKILL
        assert flows.call("flow-run", "retry", flows.newest("storing")).returncode == 0
        assert len(named(flows)) == 5 * rounds
        left = objects(flows) - named(flows)
    # They are not an hour old yet.
    assert flows.json("results", "prune", "--orphans")["deleted_orphans"] == 0
    assert objects(flows) - named(flows) == left
    for name in objects(flows):
        os.utime(flows.home / "storage" / name, (1e9, 1e9))
    pruned = flows.json("results", "prune", "--orphans")
    assert pruned["deleted_orphans"] + pruned["deleted_leftovers"] == len(left)
    assert objects(flows) == named(flows)
    assert flows.call("db", "check", "--objects").returncode == 0
