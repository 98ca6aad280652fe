"""A flow is killed at named points of the engine: the history tells what happened, all that was acknowledged, and nothing else."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from prefect_core import crash_points
from prefect_core.history.rows import FlowRunRow, StateRow, TaskRunRow
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.state_kinds import FINAL
from tests.integration.programs import ROOT

POINTS = {
    # How often the program comes by, at least.
    "engine.state": 54,
    "engine.body": 20,
    "engine.release": 18,
    "engine.flush": 6,
    "engine.hook": 17,
}
SIDES = ("before", "after")


class SideLog(NamedTuple):
    """What the program wrote down: bodies that began and how they ended, by (run, attempt), and what it was told."""

    began: set[tuple[str, int]]
    ended: dict[tuple[str, int], str]
    told: dict[str, str]
    before_linger: set[tuple[str, int]]
    is_done: bool


def read(path: Path) -> SideLog:
    log = SideLog(set(), {}, {}, set(), False)
    for line in path.read_text().splitlines() if path.exists() else []:
        match line.split():
            case ["began", run, attempt]:
                log.began.add((run, int(attempt)))
            case ["ended", run, attempt, how]:
                log.ended[run, int(attempt)] = how
            case ["told", run, state]:
                log.told[run] = state
            case ["done"]:
                log = log._replace(is_done=True)
    return log


def run_program(home: Path, crash_at: str) -> tuple[bool, SideLog]:
    """Run the program with a crash planned; tell whether it was killed, and what it had written down."""
    home.mkdir(exist_ok=True)
    side_log = home / "side.log"
    environment = {
        **os.environ,
        "PREFECT_CORE_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        crash_points.VARIABLE: crash_at,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.program", str(side_log)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    return ended.returncode != 0, read(side_log)


@contextmanager
def opened(home: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(home)
    try:
        yield store
    finally:
        store.close()


def judge(home: Path, was_killed: bool, log: SideLog) -> None:
    with opened(home) as store:
        assert store.check() == []
        flow_runs = {str(row.id): row for row in store.flow_runs()}
        task_runs = {str(row.id): row for row in store.task_runs()}
        judge_acknowledged(log, flow_runs)
        for name, row in [*flow_runs.items(), *task_runs.items()]:
            states = store.states(row.key)
            judge_states(row, states)
            if not isinstance(row, TaskRunRow) or row.child_flow_run is None:
                judge_truth(name, states, log)
        judge_finished(was_killed, log, list(flow_runs.values()))
        judge_loss(store, log, task_runs)


def judge_acknowledged(log: SideLog, flow_runs: dict[str, FlowRunRow]) -> None:
    """A flow's body ran only after its start was committed, and its hooks only after its end was."""
    for run, state in log.told.items():
        assert flow_runs[run].state_name == state
    # Bodies of tasks are not acknowledged; those of flows have a row.
    for run in {run for run, _ in log.began if run in flow_runs}:
        assert flow_runs[run].state_type != "SCHEDULED"
    if log.is_done:
        assert {row.state_name for row in flow_runs.values()} == {"Completed"}


def judge_states(row: FlowRunRow | TaskRunRow, states: list[StateRow]) -> None:
    assert [state.seq for state in states] == list(range(len(states)))
    assert states[-1].name == row.state_name
    finals = [state for state in states if state.type in {kind.value for kind in FINAL}]
    assert finals == states[-1:][: len(finals)]
    assert (row.ended_us is not None) == bool(finals)


def judge_truth(name: str, states: list[StateRow], log: SideLog) -> None:
    """No state stands there that did not happen: an attempt is said to have ended only as its body did."""
    for state in states:
        how = {"Completed": "completed", "Failed": "failed", "AwaitingRetry": "failed"}.get(state.name)
        if how is not None:
            assert log.ended.get((name, state.attempt)) == how, (name, state)


def judge_finished(was_killed: bool, log: SideLog, flow_runs: list[FlowRunRow]) -> None:
    """The run of a killed process is not shown as finished, unless its body had ended."""
    for row in flow_runs:
        if row.ended_us is not None:
            assert any(run == str(row.id) for run, _ in log.ended)
    if not was_killed:
        assert log.is_done


def judge_loss(store: SqliteStore, log: SideLog, task_runs: dict[str, TaskRunRow]) -> None:
    """What was over long before the end of the process is there: the recorder keeps nothing back for longer than it gathers."""
    linger = next(
        (str(row.id) for row in task_runs.values() if row.task_name == "linger" and row.ended_us is not None), None
    )
    if linger is None:
        return
    pause = next(row for row in task_runs.values() if str(row.id) == linger)
    for (run, attempt), how in log.ended.items():
        row = task_runs.get(run)
        if row is not None and row.created_us < pause.created_us:
            assert any(
                state.attempt == attempt and state.name in ("Completed", "Failed", "AwaitingRetry")
                for state in store.states(row.key)
            ), (run, attempt, how)


def kill_and_judge(home: Path, crash_at: str) -> bool:
    was_killed, log = run_program(home, crash_at)
    judge(home, was_killed, log)
    return was_killed


SAMPLE = random.Random(2026).sample(
    [f"{name}.{side}:{count}" for name, most in POINTS.items() for side in SIDES for count in range(1, most + 1)], 6
)


@pytest.mark.parametrize("crash_at", [*SAMPLE, "nowhere:1"])
def test_a_flow_killed_at_a_point_of_the_engine_leaves_the_truth(tmp_path: Path, crash_at: str) -> None:
    assert kill_and_judge(tmp_path / "home", crash_at) == (crash_at != "nowhere:1")


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", sorted(POINTS))
def test_campaign_of_kills_in_the_engine(tmp_path: Path, name: str, side: str) -> None:
    count = 1
    while kill_and_judge(tmp_path / str(count), f"{name}.{side}:{count}"):
        count += 1
    print(f"\ncampaign: {name}.{side}: killed at {count - 1} of {count - 1} passes")
    assert count - 1 >= POINTS[name]
