"""Two processes that resume one suspended run at the same moment: each resume happens once, and nothing is lost or done twice."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def resumers(flows: Flows, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    started = [
        subprocess.Popen(
            [sys.executable, str(RESUMER)],
            cwd=flows.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def race(flows: Flows, rounds: int) -> Counter[str]:
    """Let two processes resume a run again and again, each time at once; returns what each try came to."""
    flows.write(WORK)
    run = flows.run("suspending")
    outcomes: Counter[str] = Counter()
    with resumers(flows, 2) as processes:
        for _ in range(rounds):
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(f"{run}\n")
                process.stdin.flush()
            for process in processes:
                assert process.stdout is not None
                outcomes[process.stdout.readline().partition(":")[0].strip()] += 1
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
