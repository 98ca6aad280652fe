"""Random programs that are killed with -9 at random points: whoever looks finds out at once, nothing stays open, no end ever changes, and
`recover` brings them to the end that an unbroken run has, without doing again what was done.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.state_kinds import FINAL, StateType
from tests.faults.nursery import Nursery
from tests.faults.random_programs import SIDE_LOG, Node, epochs_of
from tests.faults.recovered import HERE
from tests.faults.test_random_programs import POINTS, Totals, judge, programs

SEEN_WITHIN_SECONDS = 5.0
States = dict[int, list[tuple[str, int]]]
"""The names and moments of the states of each run."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def states_of(home: Path) -> States:
    """Read the states of all runs, marking none."""
    store = SqliteStore(home)
    try:
        assert store.check() == []
        rows = [*store.flow_runs(), *store.task_runs()]
        return {row.key: [(one.name, one.timestamp_us) for one in store.states(row.key)] for row in rows}
    finally:
        store.close()


def ended(home: Path) -> set[int]:
    """Return the runs that are over: in a final state, or never to begin."""
    store = SqliteStore(home)
    try:
        rows = [*store.flow_runs(), *store.task_runs()]
        return {row.key for row in rows if StateType(row.state_type) in FINAL or row.state_name == "NotReady"}
    finally:
        store.close()


def look(nursery: Nursery, home: Path, killed_at: float, totals: Totals) -> list[dict[str, Any]]:
    """Let somebody list the runs; returns the rows, and checks that nothing is left open and nothing that had ended has changed."""
    before, over = states_of(home), ended(home)
    nursery.run(home, f"{HERE}:list_runs", str(home / "listed"))
    totals.counts["slowest look in ms"] = max(
        totals.counts["slowest look in ms"], round((time.monotonic() - killed_at) * 1000)
    )
    after = states_of(home)
    assert ended(home) == after.keys() == before.keys()
    assert all(after[run] == before[run] for run in over)
    assert all(after[run][: len(states)] == states for run, states in before.items())
    listed: list[dict[str, Any]] = json.loads((home / "listed").read_text())
    return listed


def check_program(nursery: Nursery, home: Path, nodes: list[Node], crash_at: str, totals: Totals) -> None:
    side_log = home / "side.log"
    variables = {SIDE_LOG: str(side_log)}
    totals.counts["programs"] += 1
    if nursery.run(home, f"{HERE}:begin", nodes, crash_at=crash_at, **variables) == 0:
        totals.counts["not killed"] += 1
        return
    totals.counts["kills"] += 1
    roots = [one for one in look(nursery, home, time.monotonic(), totals) if one["parent_flow_run_id"] is None]
    after = states_of(home)
    if not roots:
        # Killed before there was a run.
        assert after == {}
        return
    [root] = roots
    assert root["state"]["name"] in ("Crashed", "Completed")
    totals.counts[f"found {root['state']['name']}"] += 1
    nursery.run(home, f"{HERE}:recover", **variables)
    last = states_of(home)
    assert ended(home) == last.keys()
    # A further attempt adds states; what was said stays said.
    assert all(last[run][: len(states)] == states for run, states in after.items())
    judge(nodes, epochs_of(side_log), totals)


def play(nursery: Nursery, folder: Path, kills: int, number: int) -> Totals:
    """Let so many programs be killed."""
    totals = Totals()
    points = random.Random(number)

    @seeded(number)
    @settings(
        max_examples=10 * kills,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(programs())
    def run(nodes: list[Node]) -> None:
        if totals.counts["kills"] >= kills:
            return
        name = points.choice(sorted(POINTS))
        home = folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        check_program(nursery, home, nodes, f"{name}:{points.randint(1, POINTS[name])}", totals)

    run()
    assert totals.counts["kills"] == kills
    return totals


def test_killed_programs_are_found_out_and_recovered(nursery: Nursery, tmp_path: Path) -> None:
    play(nursery, tmp_path, 6, 2026)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_campaign_of_kills_and_recovery(nursery: Nursery, tmp_path: Path) -> None:
    totals = play(nursery, tmp_path, 200, 5)
    print(f"\ncampaign: killed and recovered: {totals}")
    assert totals.counts["slowest look in ms"] < SEEN_WITHIN_SECONDS * 1000
