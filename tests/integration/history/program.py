"""Runs the recording program, under strace where asked, and judges the history that it leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from prefect_core import crash_points
from prefect_core.history.sqlite.store import SqliteStore

ROOT = Path(__file__).parents[3]
STRACE = shutil.which("strace")
_COURSES = (
    ("Pending", "Running", "Completed"),
    ("Pending", "Running", "AwaitingRetry", "Retrying", "Completed"),
)


class Outcome(NamedTuple):
    """How the program ended and what it said."""

    code: int
    lines: list[str]
    errors: str

    def said(self, word: str) -> list[str]:
        return [line.partition(" ")[2] for line in self.lines if line.partition(" ")[0] == word]


def command(*options: object) -> list[str]:
    return [sys.executable, "-m", "tests.integration.history.recording", *map(str, options)]


def environment(home: Path, crash_at: str = "") -> dict[str, str]:
    return {**os.environ, "PREFECT_CORE_HOME": str(home), crash_points.VARIABLE: crash_at, "PYTHONPATH": str(ROOT)}


def record(home: Path, *options: object, crash_at: str = "", inject: str = "", timeout: float = 50) -> Outcome:
    """Run the recording program to its end, killed at a crash point or with strace disturbing its system calls."""
    tracer: list[str] = []
    if inject:
        assert STRACE is not None
        calls = inject.partition(":")[0]
        tracer = [STRACE, "-f", "-qqq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={inject}"]
    ended = subprocess.run(
        [*tracer, *command(*options)],
        cwd=ROOT,
        env=environment(home, crash_at),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Outcome(ended.returncode, ended.stdout.splitlines(), ended.stderr)


def judge(home: Path, outcome: Outcome, *, all_acked: bool = False) -> None:
    """Assert that the history is sound, holds all that was acknowledged and nothing that did not happen."""
    store = SqliteStore(home)
    try:
        assert store.check() == []
        flow_runs = {str(row.id): row for row in store.flow_runs()}
        task_runs = {str(row.id): row for row in store.task_runs()}
        assert set(outcome.said("flow")) <= flow_runs.keys()
        for name in outcome.said("flow-acked"):
            assert flow_runs[name].state_name == "Completed"
        for name in outcome.said("acked"):
            assert task_runs[name].state_name == "Completed", name
        for row in [*flow_runs.values(), *task_runs.values()]:
            _judge_run(store, row.key, row.state_name, row.ended_us)
        if all_acked:
            assert outcome.code == 0, outcome.errors
            assert not outcome.said("lost")
            assert len(outcome.said("acked")) == len(task_runs)
            assert len(outcome.said("flow-acked")) == len(outcome.said("flow")) > 0
    finally:
        store.close()


def _judge_run(store: SqliteStore, key: int, state_name: str, ended_us: int | None) -> None:
    states = store.states(key)
    names = tuple(state.name for state in states)
    assert any(names == course[: len(names)] for course in _COURSES), names
    assert [state.seq for state in states] == list(range(len(states)))
    assert names[-1] == state_name
    assert (ended_us is not None) == (state_name == "Completed")
    begun = [state for state in states if state.type == "RUNNING"]
    attempts = store.attempts(key)
    assert [attempt.started_us for attempt in attempts] == [state.timestamp_us for state in begun]
    assert [attempt.ended_us is None for attempt in attempts].count(True) == (names[-1] in ("Running", "Retrying"))
