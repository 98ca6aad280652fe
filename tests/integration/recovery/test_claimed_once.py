"""Two processes claim the same crashed runs: each is run again once, by one of them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from prefect_core import history
from prefect_core.history.store import RunFilter
from tests.integration.retrying import Flows

WORK = """
import os, sys
from prefect_core import flow, runtime

@flow(on_crash="resume")
def fragile(number: int):
    if runtime.flow_run.run_count == 1:
        raise SystemExit(3)
    file = os.open("bodies", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{number}\\n".encode())
    os.close(file)
    # What failed now is no longer what both saw crash.
    raise ValueError("on purpose")

if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        try:
            fragile(number)
        except SystemExit:
            pass
"""
CLAIMER = Path(__file__).parent / "claimer.py"


def claim_all(flows: Flows, count: int) -> Counter[tuple[str, ...]]:
    """Let two processes claim one crashed run after the other at the same time; returns what both said, counted."""
    flows.write(WORK)
    subprocess.run([sys.executable, "work.py", str(count)], cwd=flows.folder, check=True, stderr=subprocess.DEVNULL)
    store = history.open_store()
    try:
        rows = [store.flow_run(run) for run in store.resumable()]
    finally:
        store.close()
    assert len(rows) == count
    outcomes: Counter[tuple[str, ...]] = Counter()
    with flows.racers(CLAIMER) as claimers:
        for row in rows:
            for claimer in claimers:
                assert claimer.stdin is not None
                claimer.stdin.write(f"{row.id} {row.state_us}\n")
                claimer.stdin.flush()
            outcomes[tuple(sorted(claimer.stdout.readline().strip() for claimer in claimers if claimer.stdout))] += 1
    return outcomes


def check(flows: Flows, count: int) -> None:
    assert sorted(map(int, flows.bodies())) == list(range(count))
    store = history.open_store()
    try:
        rows = store.flow_runs(RunFilter(limit=count + 1))
        assert len(rows) == count
        assert {(row.state_name, row.run_count) for row in rows} == {("Failed", 2)}
        assert {len(store.reopenings(row.key)) for row in rows} == {1}
        assert store.check() == []
    finally:
        store.close()


def test_of_two_that_claim_a_crashed_run_one_gets_it(tmp_path: Path, home: Path) -> None:
    flows = Flows(tmp_path, home)
    assert claim_all(flows, 60) == {("Failed", "refused"): 60}
    check(flows, 60)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_of_two_that_claim_3000_crashed_runs_one_gets_each(tmp_path: Path, home: Path) -> None:
    flows = Flows(tmp_path, home)
    assert claim_all(flows, 3000) == {("Failed", "refused"): 3000}
    check(flows, 3000)
