"""Concurrent subflows, killed and run again many times: every result is that of its own input, and none ran twice that was acknowledged."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.crowd import HERE
from tests.faults.nursery import Nursery
from tests.faults.random_programs import SIDE_LOG, epochs_of

pytestmark = pytest.mark.slow

POINTS = {
    # Up to which pass a crowd is killed; so low that it is killed often before it is complete.
    "crowd.body": 40,
    "keeping.before_object": 12,
    "keeping.before_state": 12,
    "keeping.after_state": 12,
    "keeping.before_ack": 12,
    "keeping.before_takeover": 100,
    "storage.after_rename": 12,
    "history.before_commit": 8,
    "history.after_commit": 8,
}
SIZE = 200


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def kill_often(nursery: Nursery, folder: Path, way: str, kills: int, seed: int) -> str:
    """Kill crowds so many times, each until it is complete, and judge each."""
    chance = random.Random(seed)
    totals: Counter[str] = Counter()
    while totals["kills"] < kills:
        totals["crowds"] += 1
        home = folder / str(totals["crowds"])
        totals["kills"] += kill_one(nursery, home, way, kills - totals["kills"], chance)
        totals += judge(home)
    return ", ".join(f"{count:,} {what}" for what, count in totals.items())


def kill_one(nursery: Nursery, home: Path, way: str, most: int, chance: random.Random) -> int:
    name, backend = way.split(" on ")
    is_inside = chance.random() < 0.5
    variables = {SIDE_LOG: str(home / "side.log"), "PREFECT_CORE_RESULTS_INLINE_BYTES": "8192" if is_inside else "0"}
    points = [point for point in sorted(POINTS) if not (is_inside and point.startswith("storage"))]
    for killed in range(most):
        point = chance.choice(points)
        crash_at = f"{point}:{chance.randint(1, POINTS[point])}"
        if nursery.run(home, f"{HERE}:execute", name, SIZE, backend, crash_at=crash_at, **variables) == 0:
            return killed
    nursery.run(home, f"{HERE}:execute", name, SIZE, backend, **variables)
    return most


def judge(home: Path) -> Counter[str]:
    epochs = epochs_of(home / "side.log")
    result = json.loads(next(words[1] for words in epochs[-1] if words[0] == "result"))
    assert result == [[number, f"{number} twice is {number * 2}"] for number in range(SIZE)]
    told: set[str] = set()
    bodies: Counter[str] = Counter()
    for epoch in epochs:
        began = Counter(words[1] for words in epoch if words[0] == "began")
        assert not told & set(began)
        assert not [name for name, count in began.items() if count > 1]
        bodies += began
        told |= {words[1] for words in epoch if words[0] == "acked"}
    assert len(bodies) == 3 * SIZE
    # Kills may come before a first attempt begins, and after the last one ended.
    return Counter({"calls": len(bodies), "bodies": sum(bodies.values()), "attempts": len(epochs)})


@pytest.mark.timeout(120)
@pytest.mark.parametrize("way", ["gathered on asyncio", "submitted on trio"])
def test_two_hundred_subflows_that_are_killed_get_their_own_results(nursery: Nursery, tmp_path: Path, way: str) -> None:
    kill_often(nursery, tmp_path, way, 5, 2026)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "way", ["gathered on asyncio", "gathered on trio", "submitted on asyncio", "submitted on trio"]
)
def test_campaign_of_crowds(nursery: Nursery, tmp_path: Path, way: str) -> None:
    print(f"\ncampaign: 200 subflows {way}, seed 1: {kill_often(nursery, tmp_path, way, 100, 1)}")
