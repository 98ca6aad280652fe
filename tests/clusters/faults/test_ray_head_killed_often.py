"""The head of a Ray, or the node of the flow's process, is killed in the midst of runs: each ends Crashed, soon, and says why."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from prefect_core.testing.contract.journal import Journal
from tests.clusters.existing import not_of_ray
from tests.clusters.faults.judging import judge_recorded
from tests.clusters.faults.killed_program import BODIES
from tests.clusters.faults.killing import renew_home

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("ray_killed_under_program.py")


def kill(folder: Path, victim: str, moment: int) -> float:
    """Kill the victim once so many bodies have begun; returns how many seconds later the run has ended."""
    journal = Journal(folder / f"journal-{victim.partition('/')[0]}-{moment}")
    ended = subprocess.run(
        [sys.executable, str(PROGRAM), victim, str(moment), str(journal.path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**not_of_ray(), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    told = next((line for line in ended.stdout.splitlines() if line.startswith("ended:")), None)
    assert told is not None, ended.stderr[-3000:]
    _, seconds, state, message = told.split(" ", 3)
    assert state == "Crashed", told
    assert "Ray" in message
    judge_recorded(journal)
    return float(seconds)


def test_a_node_that_dies_under_the_flow_s_process_ends_the_run_and_not_the_process(tmp_path: Path) -> None:
    assert kill(tmp_path, "raylet/raylet", 38) < 30


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", ["gcs_server", "raylet/raylet"])
def test_campaign_of_killed_heads(victim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(1)
    took = []
    for number in range(5):
        renew_home(tmp_path / f"home-{number}", monkeypatch)
        took.append(kill(tmp_path, victim, chance.randrange(1, BODIES // 2)))
        assert took[-1] < 30
    print(f"\ncampaign: Ray, {victim}: {len(took)} kills, each run Crashed, at the latest after {max(took):.1f} s")
