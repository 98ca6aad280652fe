"""Tasks with limited tags on a runner that holds values: slots are taken when inputs are there, and for values that are made again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from prefect_core import context, flow, history, task
from prefect_core.history.limits import Asked
from prefect_core.limits import desk
from prefect_core.limits.names import make
from prefect_core.testing.contract.journal import Journal
from prefect_core.testing.surroundings import Harness, harness
from tests.contract.holding import HoldingTaskRunner

LARGE = 100_000


@pytest.fixture(autouse=True)
def world() -> Iterator[Harness]:
    with harness() as world:
        make("tag:one", 1)
        yield world


@pytest.fixture
def journal(tmp_path: Any) -> Journal:
    return Journal(tmp_path / "journal")


def runner() -> HoldingTaskRunner:
    around = context.current()
    assert around is not None
    found: HoldingTaskRunner = around.dispatcher.runner
    return found


def holders() -> list[str]:
    desk().flush()
    return [row.label for row in history.current().limits()[0].requests(lambda _: False)]


@task(tags=["one"])
def first(journal: Journal) -> bytes:
    journal.note("begins")
    journal.note("ends")
    return b"1" * LARGE


@task(tags=["one"])
def second(data: bytes, journal: Journal) -> bytes:
    journal.note("begins")
    journal.note("ends")
    return data + b"2" * LARGE


@task
def third(parts: list[bytes]) -> int:
    return sum(map(len, parts))


def test_a_task_asks_for_its_slot_when_its_inputs_are_there(journal: Journal) -> None:
    @flow(task_runner=HoldingTaskRunner())
    def chain() -> tuple[int, int]:
        ends = [second.submit(second.submit(first.submit(journal), journal), journal) for _ in range(3)]
        total = third.submit(ends).result()
        return total, runner().early

    assert chain() == (9 * LARGE, 0)
    assert journal.lines() == ["begins", "ends"] * 9
    assert holders() == []


def test_chunks_hold_no_slots_for_each_other(journal: Journal) -> None:
    @flow(task_runner=HoldingTaskRunner())
    def mapped() -> list[int]:
        made = first.map([journal] * 6, chunk=3)
        return [len(value) for value in made.result()] + runner().chunks

    assert mapped() == [LARGE] * 6
    assert journal.lines() == ["begins", "ends"] * 6


def test_a_value_is_made_again_with_a_slot(journal: Journal) -> None:
    table, _ = history.current().limits()

    @flow(task_runner=HoldingTaskRunner())
    def losing() -> int:
        one = first.submit(journal)
        one.wait()
        desk().flush()
        stranger = table.exchange(99, [Asked(("tag:one",), 1, 5, "stranger")]).answers[0].key
        assert stranger is not None
        runner().lose(one.state.data)
        count = third.submit([one])
        while "first-0" not in holders():
            assert not count.state.is_final()
        assert len(journal.lines()) == 2
        table.exchange(99, [stranger])
        return count.result()

    assert losing() == LARGE
    assert journal.lines() == ["begins", "ends"] * 2
    assert holders() == []
