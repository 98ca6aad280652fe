"""Two processes that retry one run at the same moment: each attempt is made once, and nothing is lost or done twice."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

from prefect_core import history
from tests.integration.retrying import COMMAND, Flows

WORK = """
import os
from prefect_core import flow, runtime, task

@task(persist_result=True)
def stored(x):
    return x

@flow
def failing(name: str):
    values = stored.map(range(3)).result()
    with open("bodies", "a") as file:
        file.write(f"{name}:{runtime.flow_run.run_count}\\n")
    raise ValueError("always")
"""
RETRIER = Path(__file__).parent / "retrier.py"


def race(flows: Flows, rounds: int) -> Counter[str]:
    """Let two processes retry one run after the other at once; returns what each try came to."""
    flows.write(WORK)
    run = flows.run("failing", "-p", "name=only")
    outcomes = flows.race(RETRIER, run, rounds)
    check(flows, run, outcomes["Failed"])
    return outcomes


def check(flows: Flows, run: str, retries: int) -> None:
    bodies = flows.bodies()
    store = history.open_store()
    try:
        row = store.flow_run(run)
        attempts = [one.attempt for one in store.attempts(row.key)]
        asked = store.reopenings(row.key)
        assert attempts == list(range(1, retries + 2))
        assert [one.attempt for one in asked] == attempts[1:]
        assert bodies == [f"only:{attempt}" for attempt in attempts]
        assert row.run_count == len(attempts)
        assert len(store.task_runs()) == 3
        assert store.check() == []
    finally:
        store.close()


def test_of_two_that_retry_at_once_one_gets_each_attempt(tmp_path: Path, home: Path) -> None:
    outcomes = race(Flows(tmp_path, home), 200)
    assert set(outcomes) <= {"Failed", "refused"}
    assert outcomes["Failed"] >= 200
    assert sum(outcomes.values()) == 400


def test_of_two_commands_at_once_one_is_refused_or_comes_later(tmp_path: Path, home: Path) -> None:
    flows = Flows(tmp_path, home)
    flows.write(WORK)
    run = flows.run("failing", "-p", "name=only")
    both = [
        subprocess.Popen(
            [COMMAND, "flow-run", "retry", run],
            cwd=flows.folder,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=50)[1] for process in both]
    refusals = sum("still lives" in text for text in said)
    assert [process.returncode for process in both] == [1, 1]
    check(flows, run, 2 - refusals)
