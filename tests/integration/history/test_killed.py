"""A process that records is killed, at named points and at system calls: what was acknowledged is there, and nothing else."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from prefect_core.history.sqlite.store import SqliteStore
from tests.integration.history import program

NAMED = [
    ("migrate.statement", 1),
    ("migrate.statement", 7),
    ("migrate.before_commit", 1),
    ("migrate.after_commit", 1),
    ("history.begun", 3),
    ("history.before_commit", 4),
    ("history.after_commit", 4),
    ("history.before_checkpoint", 1),
    ("history.after_checkpoint", 1),
    ("recorder.before_write", 2),
    ("recorder.after_write", 3),
]
# How often the program makes each call: its main thread, while it opens a history, and its writer's thread, later.
CALLS = {
    "pwrite64": (range(1, 48), range(1, 157, 2)),
    "fdatasync": (range(1, 11), range(1, 24)),
    "ftruncate": (range(1, 3), range(1, 11)),
    "unlink": (range(1, 4), range(0)),
}
POINTS = [(name, begun, count) for name, both in CALLS.items() for begun, counts in enumerate(both) for count in counts]


def kill_and_judge(home: Path, *, crash_at: str = "", inject: str = "") -> bool:
    """Return whether the process was killed; a second one must be able to go on in the same history."""
    options = ("--checkpoint", 30, "--runs", 60)
    outcome = program.record(home, *options, crash_at=crash_at, inject=inject)
    assert outcome.code in (0, -signal.SIGKILL, 128 + signal.SIGKILL), outcome.errors
    program.judge(home, outcome)
    again = program.record(home, *options)
    assert again.code == 0, again.errors
    program.judge(home, again)
    return outcome.code != 0


@pytest.mark.parametrize(("point", "count"), NAMED)
def test_a_kill_at_a_named_point_loses_nothing_acknowledged(home: Path, point: str, count: int) -> None:
    assert kill_and_judge(home, crash_at=f"{point}:{count}")


@pytest.mark.skipif(program.STRACE is None, reason="strace, which kills at a chosen system call, is not installed")
@pytest.mark.parametrize(("name", "begun", "count"), random.Random(20261122).sample(POINTS, 8))
def test_a_kill_at_a_system_call_loses_nothing_acknowledged(home: Path, name: str, begun: int, count: int) -> None:
    if begun:
        SqliteStore(home).close()
    kill_and_judge(home, inject=f"{name}:signal=SIGKILL:when={count}")


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", sorted({point for point, _ in NAMED}))
def test_campaign_of_kills_at_named_points(tmp_path: Path, point: str) -> None:
    killed = sum(kill_and_judge(tmp_path / str(count), crash_at=f"{point}:{count}") for count in range(1, 16))
    print(f"\ncampaign: {point}: killed {killed} of 15")
    assert killed


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.skipif(program.STRACE is None, reason="strace, which kills at a chosen system call, is not installed")
@pytest.mark.parametrize("name", sorted(CALLS))
def test_campaign_of_kills_at_system_calls(tmp_path: Path, name: str) -> None:
    points = [(begun, count) for call, begun, count in POINTS if call == name]
    killed = 0
    for begun, count in points:
        home = tmp_path / f"{begun}-{count}"
        if begun:
            SqliteStore(home).close()
        killed += kill_and_judge(home, inject=f"{name}:signal=SIGKILL:when={count}")
    print(f"\ncampaign: {name}: killed {killed} of {len(points)}")
    assert killed
