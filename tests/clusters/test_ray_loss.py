"""Worker processes that die cost the attempts that ran there, and nothing else."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from prefect_core import flow, history, task
from prefect_core.engine import remote
from prefect_core.errors import WorkerLost
from prefect_core.states import State
from prefect_core.testing.contract.journal import Journal
from prefect_runners.ray_begun import Book

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


def lose_chunk(journal: Journal) -> tuple[list[str], list[str]]:
    """Kill a worker at the second of five items; returns how they ended, and on which workers, each as one attempt."""

    @task
    def item(number: int) -> int:
        journal.note(f"item {number} {remote.process_name()}")
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    @flow(task_runner="ray")
    def run() -> list[State | None]:
        return [future.wait() for future in item.map(range(5), chunk=5)]

    states: Any = run(return_state=True).data
    store = history.open_store()
    attempts = [store.attempts(row.key) for row in sorted(store.task_runs(), key=lambda row: row.index)]
    assert [len(those) for those in attempts] == [1] * 5
    return [state.name for state in states], [those[0].worker for those in attempts]


def test_of_a_chunk_only_what_had_begun_is_lost_with_its_worker_which_the_history_names(journal: Journal) -> None:
    states, workers = lose_chunk(journal)
    assert states == ["Crashed", "Crashed", "Completed", "Completed", "Completed"]
    assert sorted(journal.lines()) == [f"item {number} {worker}" for number, worker in enumerate(workers)]


def test_where_a_worker_could_not_write_down_what_it_began_all_that_it_had_is_lost(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_book = Book.__init__

    def hide(book: Book, store: Any) -> None:
        open_book(book, store)
        book.folder = "/no/such/folder"

    monkeypatch.setattr(Book, "__init__", hide)
    assert lose_chunk(journal) == (["Crashed"] * 5, [""] * 5)
    assert len(journal.lines()) == 2


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
