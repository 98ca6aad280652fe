"""Values that were lost with their worker are made again when somebody needs them: by a further attempt, which the history tells of."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from prefect_core import context, flow, history, task
from prefect_core.errors import ValueLost
from prefect_core.testing.contract.journal import Journal
from prefect_core.testing.surroundings import Harness, harness
from tests.contract.holding import HoldingTaskRunner

LARGE = 100_000


@pytest.fixture(autouse=True)
def world() -> Iterator[Harness]:
    with harness() as world:
        yield world


@pytest.fixture
def journal(tmp_path: Any) -> Journal:
    return Journal(tmp_path / "journal")


def runner() -> HoldingTaskRunner:
    around = context.current()
    assert around is not None
    found: HoldingTaskRunner = around.dispatcher.runner
    return found


@task
def first(journal: Journal) -> bytes:
    journal.note("first")
    return b"1" * LARGE


@task
def second(data: bytes, journal: Journal) -> bytes:
    journal.note("second")
    return data + b"2" * LARGE


@task
def third(parts: list[bytes]) -> int:
    return sum(map(len, parts))


AGAIN = ["Pending", "Running", "Completed", "Pending", "Retrying", "Completed"]


def test_a_dependent_has_its_lost_input_made_again(world: Harness, journal: Journal) -> None:
    @flow(task_runner=HoldingTaskRunner())
    def losing() -> tuple[int, str]:
        one = first.submit(journal)
        one.wait()
        runner().lose(one.state.data)
        return third.submit([one]).result(), one.state.name

    assert losing() == (LARGE, "Completed")
    assert journal.lines() == ["first", "first"]
    assert world.state_names("first-0") == AGAIN
    run = next(row for row in world.store.task_runs() if row.name == "first-0")
    assert [row.attempt for row in world.store.attempts(run.key)] == [1, 2]
    assert run.run_count == 2
    assert "lost with the worker" in world.store.states(run.key)[3].message


def test_who_asks_for_a_lost_value_gets_it(world: Harness, journal: Journal) -> None:
    @flow(task_runner=HoldingTaskRunner())
    def losing() -> tuple[int, int]:
        one = first.submit(journal)
        one.wait()
        runner().lose(one.state.data)
        return len(one.result()), len(one.result())

    assert losing() == (LARGE, LARGE)
    assert journal.lines() == ["first", "first"]


def test_what_it_was_made_of_is_made_again_first_if_that_is_gone_too(world: Harness, journal: Journal) -> None:
    @flow(task_runner=HoldingTaskRunner())
    def losing(is_dropped: bool) -> int:
        one = first.submit(journal)
        two = second.submit(one, journal)
        # The end of the second may be heard of first.
        one.wait()
        two.wait()
        runner().lose(one.state.data)
        runner().lose(two.state.data)
        if is_dropped:
            del one
        return third.submit([two, two]).result()

    assert losing(False) == 4 * LARGE
    assert journal.lines() == ["first", "second"] * 2
    assert losing(True) == 4 * LARGE
    assert journal.lines() == ["first", "second"] * 4
    assert world.state_names("second-0") == AGAIN


def test_many_dependents_have_it_made_once(journal: Journal) -> None:
    @flow(task_runner=HoldingTaskRunner())
    def losing() -> list[int]:
        one = first.submit(journal)
        one.wait()
        runner().lose(one.state.data)
        return [future.result() for future in [third.submit([one]) for _ in range(20)]]

    assert losing() == [LARGE] * 20
    assert journal.lines() == ["first", "first"]


def test_a_pipeline_pins_no_value_that_nobody_wants() -> None:
    @task
    def longer(data: bytes) -> bytes:
        return data + b"x"

    @task
    def start() -> bytes:
        return b"x" * LARGE

    @flow(task_runner=HoldingTaskRunner())
    def pipeline() -> tuple[int, int]:
        value = start.submit()
        natives = []
        for _ in range(10):
            value.wait()
            natives.append(weakref.ref(value.state.data.native))
            value = longer.submit(value)
        value.wait()
        history.current().flush()
        gc.collect()
        return sum(native() is not None for native in natives), len(value.result())

    # Whoever keeps log records, as pytest does, keeps the runs that they are of.
    with harness(logging_level="CRITICAL"):
        alive, length = pipeline()
    assert alive <= 1
    assert length == LARGE + 10


def test_what_is_lost_again_and_again_ends_in_an_error_that_says_so(journal: Journal) -> None:
    @flow(task_runner=HoldingTaskRunner())
    def hopeless() -> int:
        one = first.submit(journal)
        one.wait()
        for _ in range(20):
            runner().lose(one.state.data)
            third.submit([one]).result()
        return 0

    with pytest.raises(ValueLost, match="made again several times before"):
        hopeless()
    assert len(journal.lines()) == 11


def test_a_body_that_fails_when_it_is_made_again_fails_who_needs_it(world: Harness, journal: Journal) -> None:
    @task
    def once(journal: Journal) -> bytes:
        journal.note("once")
        if len(journal.lines()) > 1:
            raise ValueError("not twice")
        return b"1" * LARGE

    @flow(task_runner=HoldingTaskRunner())
    def losing() -> int:
        one = once.submit(journal)
        one.wait()
        runner().lose(one.state.data)
        return third.submit([one]).result()

    with pytest.raises(ValueLost, match="Making it again failed: ValueError: not twice"):
        losing()
    assert world.state_names("once-0") == [*AGAIN[:-1], "Failed"]


def test_after_the_flow_run_nothing_is_made_again(journal: Journal) -> None:
    left: list[Any] = []

    @flow(task_runner=HoldingTaskRunner())
    def leaving() -> None:
        left.append(first.submit(journal))
        left[0].wait()
        runner().lose(left[0].state.data)

    leaving()
    with pytest.raises(ValueLost, match="The flow run had ended"):
        left[0].result()
    assert journal.lines() == ["first"]
