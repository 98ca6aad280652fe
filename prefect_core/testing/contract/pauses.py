"""Flow runs that somebody pauses, resumes or cancels while tasks are under way."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest

from prefect_core import cancel_flow_run, flow, pause_flow_run, resume_flow_run, task
from prefect_core.state_kinds import FINAL, StateType
from prefect_core.testing.contract.journal import Journal, MakeRunner
from prefect_core.testing.surroundings import Harness, harness

_LONG_SECONDS = 60.0
_QUIET_SECONDS = 0.1
"""For what a runner would begin, though it should not."""


class Pauses:
    """Pausing, resuming and cancelling."""

    @pytest.fixture
    def lasting(self) -> Iterator[Harness]:
        """A history in a file: who asks for something finds it there, though a body of this very process records elsewhere meanwhile."""
        with harness("sqlite") as world:
            yield world

    def test_while_a_run_is_paused_nothing_begins_but_what_is_told_of_and_then_each_body_runs_once(
        self, make_runner: MakeRunner, journal: Journal, lasting: Harness
    ) -> None:
        @task
        def hold() -> int:
            journal.note("held")
            journal.wait_for("go")
            return 1

        @task
        def follow(_held: int, number: int) -> int:
            journal.note(f"followed {number}")
            return number

        @flow(task_runner=make_runner())
        def run() -> list[int]:
            held = hold.submit()
            return [future.result() for future in [follow.submit(held, number) for number in range(5)]]

        with _beside(run) as ended:
            journal.wait_for("held")
            told = _paused(lasting)
            journal.note("go")
            _await(lambda: lasting.state_names("hold-0")[-1:] == ["Completed"])
            threading.Event().wait(_QUIET_SECONDS)
            assert len([line for line in journal.lines() if line.startswith("followed")]) <= told
            resume_flow_run(_flow_run(lasting))
        assert ended == [list(range(5))]
        assert Counter(journal.lines()) == Counter(["held", "go", *(f"followed {number}" for number in range(5))])

    def test_a_chunk_stops_between_two_of_its_members_while_its_run_is_paused(
        self, make_runner: MakeRunner, journal: Journal, lasting: Harness
    ) -> None:
        @task
        def body(number: int) -> int:
            journal.note(f"{number} {time.time_ns() // 1000}")
            if number == 0:
                journal.note("held")
                journal.wait_for("go")
            return number

        @flow(task_runner=make_runner())
        def run() -> list[int]:
            return body.map(range(20), chunk=20).result()

        with _beside(run) as ended:
            journal.wait_for("held")
            told = _paused(lasting)
            [row] = lasting.store.flow_runs()
            paused_us = lasting.store.states(row.key)[-1].timestamp_us
            journal.note("go")
            _await(lambda: lasting.state_names("body-0")[-1:] == ["Completed"])
            threading.Event().wait(_QUIET_SECONDS)
            assert len([moment for _, moment in _moments(journal) if moment > paused_us]) <= told
            resume_flow_run(row.id)
        assert ended == [list(range(20))]
        assert sorted(number for number, _ in _moments(journal)) == list(range(20))

    def test_a_cancelled_run_ends_all_that_is_open_and_leaves_no_body_that_the_runner_can_stop(
        self, make_runner: MakeRunner, journal: Journal, lasting: Harness
    ) -> None:
        @task
        def hold() -> None:
            journal.note("held")
            journal.wait_for("go")
            journal.note("went on")

        @task
        def follow(_held: None) -> None:
            journal.note("followed")

        @flow(task_runner=make_runner())
        def run() -> None:
            held = hold.submit()
            for future in [follow.submit(held) for _ in range(5)]:
                future.wait()

        with _beside(lambda: run(return_state=True)) as ended:
            journal.wait_for("held")
            assert cancel_flow_run(_flow_run(lasting), 0.2).name in {"Cancelling", "Cancelled"}
            _await(lambda: all(StateType(row.state_type) in FINAL for row in lasting.store.flow_runs()))
            journal.note("go")
            if not make_runner().can_cancel_running:
                journal.wait_for("went on")
        assert [state.name for state in ended] == ["Cancelled"]
        assert {row.state_name for row in lasting.store.task_runs()} == {"Cancelled"}
        assert "followed" not in journal.lines()
        assert ("went on" in journal.lines()) != make_runner().can_cancel_running


@contextmanager
def _beside(work: Callable[[], object]) -> Iterator[list[Any]]:
    """Do work on another thread for the length of the block; what it returns is in the list afterwards."""
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(work()), daemon=True)
    thread.start()
    yield ended
    thread.join(_LONG_SECONDS)
    assert not thread.is_alive()


def _await(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LONG_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def _flow_run(world: Harness) -> UUID:
    [row] = world.store.flow_runs()
    return row.id


def _paused(world: Harness) -> int:
    """Pause the flow run; returns how many bodies may begin all the same, by what is told of it."""
    pause_flow_run(flow_run_id=_flow_run(world))
    [row] = world.store.flow_runs()
    assert row.state_type == StateType.PAUSED.value
    known = re.match(r"(\d+) task run", row.state_message or "")
    return int(known[1]) if known else 0


def _moments(journal: Journal) -> list[tuple[int, int]]:
    """Return the numbers of bodies, and when they began in microseconds."""
    lines = [line.split() for line in journal.lines() if " " in line]
    return [(int(number), int(moment)) for number, moment in lines]
