"""Worker processes that die cost the attempts that ran there, and nothing else."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from prefect_core import flow, history, task
from prefect_core.errors import WorkerLost
from prefect_core.states import State
from prefect_core.testing.contract.journal import Journal

pytestmark = pytest.mark.usefixtures("borrowed")


@task
def die(journal: Journal, times: int) -> str:
    journal.note("body")
    if len(journal.lines()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return "lived"


def test_a_killed_worker_ends_the_attempt_crashed_and_ray_runs_no_body_again(journal: Journal) -> None:
    @flow(task_runner="ray")
    def run() -> State | None:
        return die.submit(journal, 9).wait()

    state: Any = run(return_state=True).data
    assert state.is_crashed()
    assert isinstance(state.data, WorkerLost)
    assert "worker died" in state.message
    assert journal.lines() == ["body"]


def test_a_killed_worker_costs_a_retry_and_each_body_is_an_attempt(journal: Journal) -> None:
    @flow(task_runner="ray")
    def run() -> str:
        return die.with_options(retries=3).submit(journal, 2).result()

    assert run() == "lived"
    store = history.open_store()
    row = store.task_run("die-0")
    assert row.run_count == len(store.attempts(row.key)) == len(journal.lines()) == 3


def test_what_depends_on_a_killed_attempt_gets_its_retry_s_value(journal: Journal) -> None:
    @task
    def follow(value: str) -> str:
        return f"{value} on"

    @flow(task_runner="ray")
    def run() -> str:
        return follow.submit(die.with_options(retries=1).submit(journal, 1)).result()

    assert run() == "lived on"
    store = history.open_store()
    assert store.task_run("follow-0").run_count == 1


def test_what_depends_on_a_failure_is_not_ready(journal: Journal) -> None:
    @task
    def follow(value: str) -> str:
        journal.note("followed")
        return value

    @flow(task_runner="ray")
    def run() -> list[State | None]:
        lost = die.submit(journal, 9)
        return [follow.submit(lost).wait(), follow.submit("", wait_for=[lost]).wait()]

    states: Any = run(return_state=True).data
    assert [state.name for state in states] == ["NotReady", "NotReady"]
    assert journal.lines() == ["body"]
