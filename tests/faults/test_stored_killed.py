"""A flow of stored calls is killed at named points between body, object, row and acknowledgement, and run again by the command line.

Nothing that was acknowledged is lost, at most the bodies in flight run a second time, and the result is that of an unbroken run.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prefect_core.history.sqlite.store import SqliteStore
from tests.faults.nursery import Nursery
from tests.faults.random_programs import HERE, SIDE_LOG, Node, epochs_of
from tests.faults.test_random_programs import Totals, judge


def node(kind: str, way: str, number: int, inputs: tuple[int, ...] = (), children: tuple[Node, ...] = ()) -> Node:
    return {
        "kind": kind,
        "way": way,
        "number": number,
        "in_list": bool(number % 2),
        "key": None,
        "inputs": list(inputs),
        "behind": [],
        "children": list(children),
    }


PROGRAM: list[Node] = [
    node("stored", "submit", 1),
    node("stored", "submit", 2, (0,)),
    node("plain", "submit", 3, (1,)),
    node("stored", "map", 4, (2,)),
    node("subflow", "submit", 5, (0,), (node("stored", "call", 6), node("async", "submit", 7))),
    node("flaky", "call", 8, (3,), (node("stored", "submit", 9),)),
    node("plain subflow", "call", 10, (), (node("stored", "call", 6),)),
    node("stored", "submit", 1),
]
POINTS = {
    # How often an execution comes by, at least.
    "program.body": 20,
    "keeping.before_object": 10,
    "keeping.after_object": 10,
    "keeping.before_state": 10,
    "keeping.after_state": 10,
    "keeping.before_ack": 10,
    "storage.before_write": 10,
    "storage.after_write": 10,
    "storage.after_fsync": 10,
    "storage.after_rename": 10,
    "storage.after_folder": 10,
    "history.begun": 8,
    "history.before_commit": 8,
    "history.after_commit": 8,
    "recorder.before_write": 8,
    "recorder.after_write": 8,
}
TAKING = ["keeping.before_takeover"]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def kill_and_judge(nursery: Nursery, home: Path, *crashes: str) -> int:
    """Kill an execution at each of these points, let the last one end, judge; return how many were killed."""
    shutil.rmtree(home, ignore_errors=True)
    variables = {SIDE_LOG: str(home / "side.log"), "PREFECT_CORE_RESULTS_INLINE_BYTES": "0"}

    def execute(crash_at: str) -> bool:
        call: Any = f"{HERE}:execute_by_command"
        return nursery.run(home, call, PROGRAM, crash_at=crash_at, **variables) != 0

    killed = 0
    for crash_at in crashes:
        if not execute(crash_at):
            break
        killed += 1
    else:
        assert not execute("")
    judge(PROGRAM, epochs_of(home / "side.log"), Totals())
    store = SqliteStore(home)
    try:
        assert store.check() == []
        # A subflow that nothing is stored of is another run in each attempt.
        assert [row.state_name for row in store.flow_runs() if row.parent_flow_run is None] == ["Completed"]
        assert not [row for row in [*store.flow_runs(), *store.task_runs()] if row.state_name in ("Running", "Pending")]
    finally:
        store.close()
    return killed


CHOICES = [(name, count) for name, most in POINTS.items() for count in range(1, most + 1)]


@pytest.mark.parametrize(("name", "count"), random.Random(2026).sample(CHOICES, 10))
def test_what_was_acknowledged_outlives_a_kill(nursery: Nursery, tmp_path: Path, name: str, count: int) -> None:
    assert kill_and_judge(nursery, tmp_path / "home", f"{name}:{count}") == 1


def test_what_was_taken_over_outlives_a_kill(nursery: Nursery, tmp_path: Path) -> None:
    assert kill_and_judge(nursery, tmp_path / "home", "keeping.before_ack:9", "keeping.before_takeover:5") == 2


@pytest.mark.parametrize("name", ["recorder.before_write", "recorder.after_write"])
def test_a_retry_that_is_killed_at_its_very_beginning_can_be_retried(
    nursery: Nursery, tmp_path: Path, name: str
) -> None:
    crashes = ["keeping.before_ack:3", *[f"{name}:1"] * 3]
    assert kill_and_judge(nursery, tmp_path / "home", *crashes) == 4


SUBFLOW = node("subflow", "call", 1, (), (node("stored", "call", 2),))


def ends_of(home: Path) -> tuple[str, str] | None:
    """Return how a subflow run stands in the history, and the task run that stands for it; None if there is none yet."""
    store = SqliteStore(home)
    try:
        runs = [row for row in store.flow_runs() if row.parent_task_run is not None]
        return (runs[0].state_name, store.task_run(runs[0].parent_task_run).state_name) if runs else None
    finally:
        store.close()


def test_a_subflow_whose_end_was_recorded_last_is_taken_over(nursery: Nursery, tmp_path: Path) -> None:
    def execute(home: Path, crash_at: str) -> int:
        call: Any = f"{HERE}:execute_event_by_event"
        return nursery.run(home, call, [SUBFLOW], crash_at=crash_at, **{SIDE_LOG: str(home / "side.log")})

    for count in range(1, 30):
        home = tmp_path / str(count)
        assert execute(home, f"history.after_commit:{count}") != 0
        if ends_of(home) == ("Completed", "Running"):
            break
    assert execute(home, "") == 0
    assert ends_of(home) == ("Completed", "Completed")
    first, second = ([word for word, _ in epoch] for epoch in epochs_of(home / "side.log"))
    assert first.count("began") == 2
    assert second == ["acked", "result"]


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", sorted(POINTS))
def test_campaign_of_kills_between_body_and_acknowledgement(nursery: Nursery, tmp_path: Path, name: str) -> None:
    count, killed_twice = 1, 0
    while kill_and_judge(nursery, tmp_path / "home", f"{name}:{count}"):
        killed_twice += kill_and_judge(nursery, tmp_path / "home", f"{name}:{count}", f"{name}:1") == 2
        killed_twice += kill_and_judge(nursery, tmp_path / "home", f"{name}:{count}", "keeping.before_takeover:2") == 2
        count += 1
    print(f"\ncampaign: {name}: killed at {count - 1} passes, {killed_twice} times twice")
    assert count - 1 >= POINTS[name]
