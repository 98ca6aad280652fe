"""Runs that are submitted in a transaction: it waits for them, and hears of their failures."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from prefect_core import allow_failure, flow, task
from prefect_core.errors import UpstreamTaskError
from prefect_core.transactions import (
    transaction,
)
from tests.unit.recorded import Recorded
from tests.unit.transactions.story import BY_BOTH, Story, in_block, kept

pytestmark = pytest.mark.usefixtures("recorded")


def test_a_block_waits_for_the_runs_that_were_submitted_in_it(story: Story, recorded: Recorded) -> None:
    go_on = threading.Event()
    a = story.task("a")
    waits = task(lambda: go_on.wait(20), name="waits", persist_result=True, on_commit=[story.hook("waits committed")])

    def body(txn: Any) -> None:
        waits.submit()
        a.submit().result()
        threading.Timer(0.05, go_on.set).start()

    in_block(False, body)
    assert sorted(story.told) == ["a", "a committed", "waits committed"]
    assert kept(recorded, "waits") == [True]


@BY_BOTH
def test_a_submitted_run_whose_failure_nobody_asked_for_rolls_back_and_raises(story: Story, is_async: bool) -> None:
    a = story.task("a")
    fails = task(lambda: 1 / 0)

    def body(txn: Any) -> None:
        a()
        fails.submit()

    with pytest.raises(ZeroDivisionError):
        in_block(is_async, body)
    assert story.told == ["a", "a undone"]


def test_a_failure_that_an_input_allows_is_asked_for(story: Story) -> None:
    fails, takes = task(lambda: 1 / 0), story.task("takes")
    in_block(False, lambda txn: takes.submit(allow_failure(fails.submit())) and None)
    assert story.told == ["takes", "takes committed"]
    with pytest.raises((ZeroDivisionError, UpstreamTaskError)):
        in_block(False, lambda txn: takes.submit(fails.submit()) and None)


def test_runs_that_have_not_begun_are_cancelled_when_the_block_fails(story: Story, recorded: Recorded) -> None:
    began, go_on = threading.Event(), threading.Event()

    def first() -> None:
        began.set()
        go_on.wait(20)

    first_task, second = task(first), story.task("second")

    @flow(task_runner="concurrent:1")
    def around() -> None:
        with transaction():
            first_task.submit()
            began.wait(20)
            second.submit()
            threading.Timer(0.05, go_on.set).start()
            raise ValueError

    with pytest.raises(ValueError):
        around()
    assert story.told == []
    assert recorded.task_states("second")[0][-1] == "Cancelled"
    assert recorded.task_states("first")[0][-1] == "Completed"


def test_a_block_in_async_code_awaits_async_runs(story: Story) -> None:
    @task(on_commit=[story.hook("committed")])
    async def ticks() -> None:
        await asyncio.sleep(0)

    @flow
    async def around() -> None:
        async with transaction() as txn:
            ticks.submit()
            await ticks()
        assert txn.is_committed()

    asyncio.run(around())
    assert story.told == ["committed", "committed"]
