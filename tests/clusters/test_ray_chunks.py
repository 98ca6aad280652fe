"""Maps in chunks on Ray: what dies, is taken back or is late costs no more than it must."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from prefect_core import context, flow, history, task
from prefect_core.settings import temporary_settings
from prefect_core.testing.contract.journal import Journal
from prefect_runners.ray_chunks import Member
from tests.clusters import chunk_bodies
from tests.clusters.ray_bodies import is_alive

pytestmark = pytest.mark.usefixtures("borrowed")


@task(retries=2)
def unlucky(number: int, journal: Journal) -> int:
    journal.note(str(number))
    if number == 3 and journal.lines().count("3") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_worker_costs_its_chunk_and_the_rest_stays(journal: Journal) -> None:
    @flow(task_runner="ray")
    def run() -> list[int]:
        return unlucky.map(range(20), journal, chunk=5).result()

    assert run() == list(range(20))
    # What ran in the other chunks ran once.
    assert all(journal.lines().count(str(number)) == 1 for number in range(5, 20))
    store = history.open_store()
    assert store.task_run("unlucky-3").run_count == journal.lines().count("3") == 2
    assert store.task_run("unlucky-12").run_count == 1


def test_what_has_not_begun_of_a_map_in_chunks_is_taken_back(journal: Journal) -> None:
    @task
    def hold(number: int) -> None:
        journal.note(str(number))
        journal.wait_for("go", 30)

    @flow(task_runner="ray")
    def run() -> None:
        hold.map(range(40), chunk=4)
        while not journal.lines():
            time.sleep(0.01)
        raise KeyError("enough")

    with temporary_settings(cancel_grace_seconds=0.2):
        assert run(return_state=True).is_failed()
    begun = len(journal.lines())
    assert begun <= 2
    rows = history.open_store().task_runs()
    states = [row.state_name for row in rows]
    assert states.count("Cancelled") >= 30
    assert {"Cancelled", "Crashed"} == set(states)
    journal.note("go")
    assert len(journal.lines()) == begun + 1


def test_what_waits_behind_a_body_that_hears_nothing_is_taken_back(journal: Journal) -> None:
    @task
    def sleep(number: int) -> None:
        journal.note(str(number))
        # Ray's interruption does not wake it.
        time.sleep(60)

    @flow(task_runner="ray")
    def run() -> None:
        sleep.map(range(4), chunk=4)
        while not journal.lines():
            time.sleep(0.01)
        raise KeyError("enough")

    with temporary_settings(cancel_grace_seconds=0.2):
        assert run(return_state=True).is_failed()
    states = [row.state_name for row in history.open_store().task_runs()]
    assert sorted(states) == ["Cancelled"] * 3 + ["Crashed"]
    assert journal.lines() == ["0"]


def test_one_that_does_not_heed_its_deadline_does_not_hold_up_its_chunk_for_ever(journal: Journal) -> None:
    @task(timeout_seconds=0.3)
    def deaf(number: int) -> int:
        while number == 1:
            try:
                time.sleep(60)
            except BaseException:
                continue
        return number

    @flow(task_runner="ray")
    def run() -> list[Any]:
        return deaf.map(range(3), chunk=3, return_state=True)

    names = [state.name for state in run(return_state=True).data]
    assert names[:2] == ["Completed", "TimedOut"]


def test_a_chunk_that_keeps_a_value_for_long_ends_and_its_rest_goes_on(journal: Journal) -> None:
    @flow(task_runner="ray")
    def run() -> list[bytes]:
        made = chunk_bodies.slow_first.map(range(4), journal, chunk=4)
        made[0].wait()
        journal.note("the first is known")
        return made.result()

    assert [value[:1] for value in run()] == [bytes([number]) for number in range(4)]
    assert sorted(journal.lines()) == [*[f"begun {number}" for number in range(4)], "the first is known"]


def test_a_value_of_a_chunk_whose_worker_has_gone_is_had_all_the_same(journal: Journal) -> None:
    @flow(task_runner="ray")
    def run() -> list[int]:
        made = chunk_bodies.noted.map(range(4), journal, chunk=4)
        made.wait()
        process = chunk_bodies.processes(journal)[1]
        os.kill(process, signal.SIGKILL)
        while is_alive(process):
            time.sleep(0.01)
        length = chunk_bodies.length.with_options(retries=2)  # which Ray may give to the dead worker yet
        return [length.submit(made[1]).result(), len(made[2].result())]

    assert run() == [chunk_bodies.LARGE] * 2
    store = history.open_store()
    counts = [len(store.attempts(store.task_run(f"noted-{number}").key)) for number in range(4)]
    # When Ray drops what a dead worker owned is its own affair; if it has, the value was made again alone.
    assert counts[0] == counts[3] == 1
    assert {1, 2}.issuperset(counts)
    assert sum(counts) == len(journal.lines())


def test_quick_calls_go_together_and_none_waits_for_one_that_it_shares_a_chunk_with(tmp_path: Path) -> None:
    @flow(task_runner="ray")
    def run() -> list[int]:
        return [future.result() for future in [chunk_bodies.meet.submit(x, str(tmp_path)) for x in range(200)]]

    assert run() == list(range(200))
    attempts = history.open_store().task_run("meet-60"), history.open_store().task_run("meet-61")
    assert [run.run_count for run in attempts] == [1, 1]


def test_what_ray_cancels_later_than_anybody_waits_for_that_runs_all_the_same(journal: Journal) -> None:
    @task
    def hold(number: int) -> int:
        journal.note("held")
        journal.wait_for("go")
        return number

    @flow(task_runner="ray")
    def run() -> list[int]:
        around = context.current()
        assert around is not None
        held = [hold.submit(number) for number in range(2)]
        while journal.lines().count("held") < 2:
            time.sleep(0.01)
        waiting = [
            *chunk_bodies.numbered.map([2, 3], journal, chunk=2),
            *[chunk_bodies.numbered.submit(number, journal) for number in (4, 5)],
        ]
        runner = around.dispatcher.runner
        for call in around.dispatcher.open_calls():
            if call.task is chunk_bodies.numbered:
                handle = call.payload.handle
                # As `cancel_many` does, but for the wait.
                runner._attempts.interrupt(handle.at[0] if isinstance(handle, Member) else handle)
        journal.note("go")
        return [future.result(60) for future in [*held, *waiting]]

    assert run() == list(range(6))
    assert sorted(journal.lines()) == ["2", "3", "4", "5", "go", "held", "held"]
