"""What a runner declares of itself, each declaration tested for what it promises either way."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import Any

import prefect_core.task_runners as interface
from prefect_core import flow, task
from prefect_core.errors import RunnerError, SerializationError
from prefect_core.settings import temporary_settings
from prefect_core.states import State
from prefect_core.testing.contract.journal import Journal, MakeRunner
from prefect_core.testing.surroundings import Harness


class _Unstable(Exception):
    """An exception that can be pickled but not made again."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Limits:
    """Declared limits, and the runner as a value."""

    def test_equal_options_make_equal_runners(self, make_runner: MakeRunner) -> None:
        runner = make_runner()
        assert runner == make_runner() == runner.duplicate()
        assert runner != object()
        assert type(runner.duplicate()) is type(runner)
        assert runner.name == type(runner).__name__
        assert repr(runner).startswith(f"{runner.name}(")
        assert interface.resolve_runner(runner) is runner

    def test_bodies_share_memory_exactly_where_the_runner_says_so(self, make_runner: MakeRunner) -> None:
        shared: list[int] = []

        @task
        def append(here: list[int]) -> int:
            here.append(os.getpid())
            return id(here)

        @flow(task_runner=make_runner())
        def run() -> int:
            return append.submit(shared).result()

        place = run()
        if make_runner().shares_memory:
            assert place == id(shared)
            assert shared == [os.getpid()]
        else:
            assert shared == []

    def test_arguments_that_cannot_travel_are_named_or_need_not_travel(
        self, make_runner: MakeRunner, world: Harness
    ) -> None:
        def endless() -> Any:
            yield 1

        unpicklable = [threading.Lock(), endless(), sys.stderr]

        @task
        def take(fine: int, troublesome: Any) -> str:
            return type(troublesome).__name__

        @flow(task_runner=make_runner())
        def run() -> list[State | None]:
            return [take.submit(1, value).wait() for value in unpicklable]

        states = run(return_state=True).data
        if make_runner().shares_memory:
            assert [state.result() for state in states] == ["lock", "generator", type(sys.stderr).__name__]
        else:
            for state in states:
                assert state.is_failed()
                assert isinstance(state.data, SerializationError)
                assert "troublesome" in state.message
                assert "take" in state.message
            assert {row.run_count for row in world.store.task_runs()} == {0}

    def test_results_and_exceptions_that_cannot_travel_are_no_hang(self, make_runner: MakeRunner) -> None:
        @task
        def give_lock() -> Any:
            return threading.Lock()

        @task
        def raise_unstable() -> None:
            raise _Unstable(5, "can't be made again")

        @flow(task_runner=make_runner())
        def run() -> list[State | None]:
            return [give_lock.submit().wait(), raise_unstable.submit().wait()]

        given, raised = run(return_state=True).data
        if make_runner().shares_memory:
            assert given.is_completed()
            assert type(raised.data) is _Unstable
        else:
            assert given.is_failed()
            assert isinstance(given.data, SerializationError)
            assert "give_lock" in given.message
        assert raised.is_failed()
        assert "can't be made again" in raised.message

    def test_a_submitted_body_has_ended_at_once_exactly_where_the_runner_says_so(
        self, make_runner: MakeRunner, journal: Journal
    ) -> None:
        @task
        def hold() -> None:
            journal.wait_for("go")

        @flow(task_runner=make_runner())
        def run() -> bool:
            if make_runner().runs_on_submit:
                journal.note("go")
            is_done = hold.submit().done()
            journal.note("go")
            return is_done

        assert run() == make_runner().runs_on_submit

    def test_a_body_that_outlives_the_grace_ends_crashed_and_is_stopped_where_the_runner_can(
        self, make_runner: MakeRunner, journal: Journal, world: Harness
    ) -> None:
        @task
        def hold() -> None:
            journal.note("held")
            journal.wait_for("go")
            journal.note("went on")

        @flow(task_runner=make_runner())
        def run() -> None:
            if make_runner().runs_on_submit:
                journal.note("go")
            hold.submit()
            journal.wait_for("held")
            raise KeyError("enough")

        with temporary_settings(cancel_grace_seconds=0.05):
            assert run(return_state=True).is_failed()
        row = world.store.task_run("hold-0")
        journal.note("go")
        if make_runner().runs_on_submit:
            assert row.state_name == "Completed"
        else:
            assert (row.state_name, row.state_message) == (
                "Crashed",
                "The flow run ended and this task run did not end within the grace period.",
            )
        if not make_runner().can_cancel_running:
            journal.wait_for("went on")
        else:
            assert "went on" not in journal.lines()

    def test_an_isolated_body_ends_at_its_deadline_whatever_it_does_or_is_not_taken(
        self, make_runner: MakeRunner, journal: Journal
    ) -> None:
        @task(isolation="process", timeout_seconds=0.5)
        def endure() -> None:
            journal.note(str(os.getpid()))
            while True:
                with suppress(BaseException):
                    journal.wait_for("go")

        @flow(task_runner=make_runner())
        def run() -> State | None:
            return endure.submit().wait()

        state = run(return_state=True).data
        if make_runner().shares_memory or make_runner().can_kill:
            assert state.name == "TimedOut"
            assert len(journal.lines()) == 1
            assert str(os.getpid()) not in journal.lines()
        else:
            assert isinstance(state.data, RunnerError)
            assert journal.lines() == []
