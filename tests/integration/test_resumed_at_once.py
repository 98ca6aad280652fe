"""Two processes that resume one suspended run at the same moment: each resume happens once, and nothing is lost or done twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from prefect_core import history
from tests.integration.retrying import Flows

WORK = """
from prefect_core import flow, runtime, suspend_flow_run, task

@task(persist_result=True)
def stored(x):
    return x

@flow
def suspending():
    values = stored.map(range(3)).result()
    with open("bodies", "a") as file:
        file.write(f"{runtime.flow_run.run_count}\\n")
    suspend_flow_run(key=str(runtime.flow_run.run_count), timeout=None)
"""
RESUMER = Path(__file__).parent / "resumer.py"


def race(flows: Flows, rounds: int) -> Counter[str]:
    """Let two processes resume a run again and again, each time at once; returns what each try came to."""
    flows.write(WORK)
    run = flows.run("suspending")
    outcomes = flows.race(RESUMER, run, rounds)
    check(flows, run, outcomes["Suspended"])
    return outcomes


def check(flows: Flows, run: str, resumes: int) -> None:
    store = history.open_store()
    try:
        row = store.flow_run(run)
        attempts = [one.attempt for one in store.attempts(row.key)]
        assert attempts == list(range(1, resumes + 2))
        assert [one.attempt for one in store.reopenings(row.key)] == attempts[1:]
        assert flows.bodies() == [str(attempt) for attempt in attempts]
        pauses = store.control().pauses(row.key)
        assert [one.has_fired for one in pauses] == [True] * resumes + [False]
        assert len(store.task_runs()) == 3
        assert row.state_name == "Suspended"
        assert store.check() == []
    finally:
        store.close()


def test_of_two_that_resume_at_once_one_gets_each_resume(tmp_path: Path, home: Path) -> None:
    outcomes = race(Flows(tmp_path, home), 100)
    assert set(outcomes) <= {"Suspended", "refused"}
    assert outcomes["Suspended"] >= 100
    assert sum(outcomes.values()) == 200
