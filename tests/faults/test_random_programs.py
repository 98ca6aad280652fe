"""Random small programs, killed at random points and run again until they complete: they end with what an unbroken run gives, and no body
whose result was acknowledged runs a second time.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from tests.faults.nursery import Nursery
from tests.faults.random_programs import (
    HERE,
    KINDS,
    NOT_STORED,
    SIDE_LOG,
    Node,
    epochs_of,
    keys_among,
    plain,
    values_of,
)

POINTS = {
    "program.body": 12,
    "keeping.before_object": 6,
    "keeping.after_object": 6,
    "keeping.before_state": 6,
    "keeping.after_state": 6,
    "keeping.before_ack": 6,
    "keeping.before_takeover": 4,
    "storage.before_write": 4,
    "storage.after_write": 4,
    "storage.after_rename": 4,
    "history.begun": 8,
    "history.before_commit": 8,
    "history.after_commit": 8,
}


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@st.composite
def programs(draw: st.DrawFn, depth: int = 2) -> list[Node]:
    nodes: list[Node] = []
    for count in range(draw(st.integers(1, 4 if depth == 2 else 2))):
        earlier = st.lists(st.integers(0, count - 1), max_size=2) if count else st.just([])
        kind = draw(st.sampled_from(KINDS))
        # An async body must not block its loop, and so has no children here.
        has_children = depth > 0 and kind != "async" and draw(st.booleans())
        nodes.append(
            {
                "kind": kind,
                "way": draw(st.sampled_from(["call", "submit", "submit", "map"])),
                # Few numbers, so that many calls are equal.
                "number": draw(st.integers(0, 1)),
                "in_list": draw(st.booleans()),
                "key": draw(st.sampled_from([None, None, f"key {count}"])),
                "inputs": draw(earlier),
                "behind": draw(earlier),
                "children": draw(programs(depth - 1)) if has_children else [],
            }
        )
    return nodes


kills = st.lists(
    st.sampled_from(sorted(POINTS)).flatmap(
        lambda name: st.integers(1, POINTS[name]).map(lambda count: f"{name}:{count}")
    ),
    max_size=5,
)


class Totals:
    """What a campaign did."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {what}" for what, count in sorted(self.counts.items()))


def check_program(nursery: Nursery, home: Path, nodes: list[Node], told: dict[str, Any], totals: Totals) -> None:
    side_log = home / "side.log"
    arguments = (f"{HERE}:execute", nodes, told["retries"])
    variables = {SIDE_LOG: str(side_log), "PREFECT_CORE_RESULTS_INLINE_BYTES": "0" if told["outside"] else "8192"}
    for crash_at in [*told["kills"], ""]:
        totals.counts["executions"] += 1
        code = nursery.run(home, *arguments, crash_at=crash_at, **variables)
        totals.counts["kills"] += code != 0
        if code == 0:
            break
    totals.counts["programs"] += 1
    judge(nodes, epochs_of(side_log), totals)


def judge(nodes: list[Node], epochs: list[list[list[str]]], totals: Totals) -> None:
    result = json.loads(next(words[1] for words in epochs[-1] if words[0] == "result"))
    assert result == [plain(value) for value in values_of(nodes)]
    calls: Counter[str] = Counter()
    flaky: set[str] = set()
    for (kind, key), count in keys_among(nodes, "root").items():
        if kind not in NOT_STORED:
            calls[key] += count
        if kind == "flaky":
            flaky.add(key)
    # Of equal calls, so many are known to have ended: as many as one attempt of the program was told.
    known: Counter[str] = Counter()
    for number, epoch in enumerate(epochs):
        began = Counter(words[1] for words in epoch if words[0] == "began")
        totals.counts["bodies"] += sum(began.values())
        for key, count in began.items():
            if key in calls:
                most = (calls[key] - known[key]) * (2 if key in flaky else 1)
                assert count <= most, f"{key} began {count} times in epoch {number}, and {most} were left"
        known |= Counter(words[1] for words in epoch if words[0] == "acked")
        totals.counts["acknowledged"] = totals.counts["acknowledged"] + sum(
            min(count, calls[key]) for key, count in known.items()
        )


def play(nursery: Nursery, folder: Path, count: int, number: int) -> Totals:
    totals = Totals()

    @seeded(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(programs(), st.fixed_dictionaries({"kills": kills, "retries": st.integers(0, 1), "outside": st.booleans()}))
    def run(nodes: list[Node], told: dict[str, Any]) -> None:
        home = folder / "home"
        shutil.rmtree(home, ignore_errors=True)
        check_program(nursery, home, nodes, told, totals)

    run()
    return totals


def test_a_random_program_that_is_killed_ends_as_if_it_had_not_been(nursery: Nursery, tmp_path: Path) -> None:
    play(nursery, tmp_path, 25, 2026)


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(1, 5))
def test_campaign_of_random_programs(nursery: Nursery, tmp_path: Path, number: int) -> None:
    print(f"\ncampaign: random programs, seed {number}: {play(nursery, tmp_path, 500, number)}")
