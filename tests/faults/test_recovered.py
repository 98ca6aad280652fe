"""Random programs that are killed with -9 at random points: whoever looks finds out, nothing stays open, no end ever changes, and `recover`
brings them to the end that an unbroken run has, without doing again what was done.

Most are looked at by somebody who sees that the process is gone, and finds out at once. Every fourth is looked at from another pid
namespace, where nothing but the lease tells.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from prefect_core.history.leases import LeaseRow
from prefect_core.history.process import monotonic_us
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.state_kinds import FINAL, StateType
from tests.faults.nursery import Nursery
from tests.faults.random_programs import SIDE_LOG, Node, epochs_of
from tests.faults.recovered import HERE
from tests.faults.test_random_programs import POINTS, Totals, judge, programs
from tests.integration.control.owners import HIDDEN, can_hide

SEEN_WITHIN_SECONDS = 5.0
SEEN_WITHIN_LEASES = 2.0
LEASE_SECONDS = 1.0
"""Of programs that are looked at by somebody who does not see their process."""
LOOK, BY_THE_LEASE = "slowest look in ms", "slowest by the lease alone in leases"
LEASE_ALONE = "kills that the lease alone told of"
SHORT_LEASE = {"PREFECT_CORE_LEASE_SECONDS": str(LEASE_SECONDS), "PREFECT_CORE_LEASE_BEAT_SECONDS": "0.1"}
States = dict[int, list[tuple[str, int]]]
"""The names and moments of the states of each run."""


class Figures(Totals):
    """What the campaign did, and how long it took to find out."""

    def __init__(self) -> None:
        super().__init__()
        self.most: dict[str, float] = {LOOK: 0.0, BY_THE_LEASE: 0.0}

    def __str__(self) -> str:
        return ", ".join([super().__str__(), *(f"{what} {most:.2f}" for what, most in self.most.items())])

    def slowest(self, what: str, took: float) -> None:
        self.most[what] = max(self.most[what], took)


class Nurseries(NamedTuple):
    """Where the programs run and are recovered, and where somebody looks who sees none of their processes, if that can be had here."""

    here: Nursery
    elsewhere: Nursery | None


@pytest.fixture(scope="module")
def nurseries() -> Iterator[Nurseries]:
    nurseries = Nurseries(Nursery(), Nursery(*HIDDEN) if can_hide() else None)
    yield nurseries
    for nursery in nurseries:
        if nursery is not None:
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


def leases_of(home: Path) -> list[LeaseRow]:
    store = SqliteStore(home)
    try:
        return store.control().leases()
    finally:
        store.close()


def look(nursery: Nursery, home: Path) -> list[dict[str, Any]]:
    """Let somebody list the runs; returns the rows, and checks that nothing that had ended, or was ever said, has changed."""
    before, over = states_of(home), ended(home)
    nursery.run(home, f"{HERE}:list_runs", str(home / "listed"))
    after = states_of(home)
    assert after.keys() == before.keys()
    assert all(after[run] == before[run] for run in over)
    assert all(after[run][: len(states)] == states for run, states in before.items())
    listed: list[dict[str, Any]] = json.loads((home / "listed").read_text())
    return listed


def look_here(nursery: Nursery, home: Path, totals: Figures) -> list[dict[str, Any]]:
    """Look once at a program that was just killed: nothing is left open."""
    killed_at = time.monotonic()
    listed = look(nursery, home)
    totals.slowest(LOOK, (time.monotonic() - killed_at) * 1000)
    assert ended(home) == states_of(home).keys()
    return listed


def look_elsewhere(nursery: Nursery, home: Path, totals: Figures) -> list[dict[str, Any]]:
    """Look at a program that was just killed, until nothing is left open.

    That is so at the first look that begins a lease after the kill, and at none that ends before the lease has expired.
    """
    killed_at = time.monotonic()
    totals.counts[LEASE_ALONE] += ended(home) != states_of(home).keys()
    expires_us = max((lease.expires_us for lease in leases_of(home)), default=0)
    while True:
        began_at, over = time.monotonic(), ended(home)
        listed = look(nursery, home)
        if ended(home) == states_of(home).keys():
            totals.slowest(BY_THE_LEASE, (time.monotonic() - killed_at) / LEASE_SECONDS)
            assert ended(home) == over or monotonic_us() >= expires_us
            return listed
        assert ended(home) == over
        assert began_at < killed_at + LEASE_SECONDS


def check_program(nurseries: Nurseries, home: Path, nodes: list[Node], crash_at: str, totals: Figures) -> None:
    side_log = home / "side.log"
    variables = {SIDE_LOG: str(side_log)}
    # Of the second kill, the sixth and so on, somebody learns who sees nothing of the process.
    elsewhere = nurseries.elsewhere if totals.counts["kills"] % 4 == 1 else None
    lease = SHORT_LEASE if elsewhere is not None else {}
    totals.counts["programs"] += 1
    if nurseries.here.run(home, f"{HERE}:begin", nodes, crash_at=crash_at, **variables, **lease) == 0:
        totals.counts["not killed"] += 1
        return
    totals.counts["kills"] += 1
    listed = (
        look_elsewhere(elsewhere, home, totals) if elsewhere is not None else look_here(nurseries.here, home, totals)
    )
    after = states_of(home)
    roots = [one for one in listed if one["parent_flow_run_id"] is None]
    if not roots:
        # Killed before there was a run.
        assert after == {}
        return
    [root] = roots
    assert root["state"]["name"] in ("Crashed", "Completed")
    totals.counts[f"found {root['state']['name']}"] += 1
    nurseries.here.run(home, f"{HERE}:recover", **variables)
    last = states_of(home)
    assert ended(home) == last.keys()
    # A further attempt adds states; what was said stays said.
    assert all(last[run][: len(states)] == states for run, states in after.items())
    judge(nodes, epochs_of(side_log), totals)


def play(nurseries: Nurseries, folder: Path, kills: int, number: int) -> Figures:
    """Let so many programs be killed."""
    totals = Figures()
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
        check_program(nurseries, home, nodes, f"{name}:{points.randint(1, POINTS[name])}", totals)

    run()
    assert totals.counts["kills"] == kills
    return totals


@pytest.mark.slow
def test_killed_programs_are_found_out_and_recovered(nurseries: Nurseries, tmp_path: Path) -> None:
    totals = play(nurseries, tmp_path, 6, 2026)
    assert nurseries.elsewhere is None or totals.counts[LEASE_ALONE]


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_campaign_of_kills_and_recovery(nurseries: Nurseries, tmp_path: Path) -> None:
    totals = play(nurseries, tmp_path, 200, 5)
    print(f"\ncampaign: killed and recovered: {totals}")
    assert totals.most[LOOK] < SEEN_WITHIN_SECONDS * 1000
    assert totals.most[BY_THE_LEASE] <= SEEN_WITHIN_LEASES
