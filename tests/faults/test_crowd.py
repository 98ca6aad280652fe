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

POINTS = {
    "crowd.body": 60,
    "keeping.before_object": 30,
    "keeping.before_state": 30,
    "keeping.after_state": 30,
    "keeping.before_ack": 30,
    "keeping.before_takeover": 30,
    "storage.after_rename": 30,
    "history.before_commit": 10,
    "history.after_commit": 10,
}


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def kill_often(nursery: Nursery, home: Path, way: str, kills: int, seed: int) -> str:
    """Kill a crowd so many times, let it end, and judge. The more is stored, the further on it is killed."""
    chance = random.Random(seed)
    name, backend = way.split(" on ")
    size, killed, done = 200, 0, 0
    variables = {
        SIDE_LOG: str(home / "side.log"),
        "PREFECT_CORE_RESULTS_INLINE_BYTES": chance.choice(["0", "8192"]),
    }
    for _ in range(kills):
        point = chance.choice(sorted(POINTS))
        crash_at = f"{point}:{chance.randint(1, POINTS[point] * 600 // (600 + 10 * done))}"
        if nursery.run(home, f"{HERE}:execute", name, size, backend, crash_at=crash_at, **variables) == 0:
            break
        killed, done = killed + 1, acknowledged(home)
    else:
        nursery.run(home, f"{HERE}:execute", name, size, backend, **variables)
    return f"{killed} kills, {judge(home, size)}"


def acknowledged(home: Path) -> int:
    return len({words[1] for epoch in epochs_of(home / "side.log") for words in epoch if words[0] == "acked"})


def judge(home: Path, size: int) -> str:
    epochs = epochs_of(home / "side.log")
    result = json.loads(next(words[1] for words in epochs[-1] if words[0] == "result"))
    assert result == [[number, f"{number} twice is {number * 2}"] for number in range(size)]
    told: set[str] = set()
    bodies: Counter[str] = Counter()
    for epoch in epochs:
        began = Counter(words[1] for words in epoch if words[0] == "began")
        assert not told & set(began)
        assert not [name for name, count in began.items() if count > 1]
        bodies += began
        told |= {words[1] for words in epoch if words[0] == "acked"}
    assert len(bodies) == 3 * size
    return f"{len(bodies)} calls, {sum(bodies.values())} bodies, {len(epochs)} attempts"


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
