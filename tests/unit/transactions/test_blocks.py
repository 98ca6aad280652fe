"""Transactions: what is kept together or not at all, and whose hooks are called when, in which order."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from prefect_core import flow, get_run_logger, task
from prefect_core.states import Failed
from prefect_core.transactions import (
    atransaction,
    get_transaction,
    transaction,
)
from tests.unit.recorded import Recorded
from tests.unit.transactions.story import BY_BOTH, Story, in_block, kept

pytestmark = pytest.mark.usefixtures("recorded")


@BY_BOTH
def test_all_is_kept_when_the_block_is_left_well(story: Story, recorded: Recorded, is_async: bool) -> None:
    a, b = story.task("a"), story.task("b")

    def body(txn: Any) -> None:
        a()
        b()
        assert kept(recorded, "a") == [False]

    in_block(is_async, body)
    assert story.told == ["a", "b", "a committed", "b committed"]
    assert kept(recorded, "a") == kept(recorded, "b") == [True]


@BY_BOTH
def test_nothing_is_kept_when_it_is_left_by_an_exception(story: Story, recorded: Recorded, is_async: bool) -> None:
    a, b = story.task("a"), story.task("b")

    def body(txn: Any) -> None:
        a()
        b()
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        in_block(is_async, body)
    assert story.told == ["a", "b", "b undone", "a undone"]
    assert kept(recorded, "a") == kept(recorded, "b") == [False]
    assert recorded.store.results() == []
    assert recorded.verdicts("a") == [("rolled back", "the transaction that it took part in was rolled back")]
    # A final state is final.
    assert recorded.task_states("a") == [["Pending", "Running", "Completed"]]


def test_a_task_that_raises_rolls_back_those_before_it_and_not_itself(story: Story) -> None:
    a, b = story.task("a"), story.task("b")
    fails = task(lambda: 1 / 0, on_rollback=[story.hook("fails undone")])

    def body(txn: Any) -> None:
        a()
        b()
        fails()

    with pytest.raises(ZeroDivisionError):
        in_block(False, body)
    assert story.told == ["a", "b", "b undone", "a undone"]


def test_a_failure_that_is_caught_rolls_nothing_back(story: Story) -> None:
    a = story.task("a")
    fails = task(lambda: 1 / 0, on_rollback=[story.hook("fails undone")])

    def body(txn: Any) -> None:
        a()
        assert fails(return_state=True).is_failed()
        future = fails.submit()
        with pytest.raises(ZeroDivisionError):
            future.result()

    in_block(False, body)
    assert story.told == ["a", "a committed"]


def test_a_returned_failure_undoes_itself_and_the_block(story: Story) -> None:
    a = story.task("a")
    returns = task(lambda: Failed(message="no"), on_rollback=[story.hook("returns undone")])

    def body(txn: Any) -> None:
        a()
        returns(return_state=True)
        assert txn.is_rolled_back()
        story.task("late")()

    in_block(False, body)
    assert story.told == ["a", "returns undone", "a undone", "late", "late undone"]


def test_the_values_of_a_transaction_are_there_for_tasks_and_hooks(story: Story) -> None:
    seen = []

    @task
    def writes(path: str) -> None:
        get_transaction().set("mine", 1)
        seen.append(get_transaction().get("path"))

    @writes.on_rollback
    def deletes(txn: Any) -> None:
        seen.append((txn.get("path"), txn.get("mine"), txn.get("nothing", 0)))

    def body(txn: Any) -> None:
        txn.set("path", ["a"])
        txn.get("path").append("changed by whoever got it")
        writes("x")
        with pytest.raises(ValueError, match="Could not retrieve value for unknown key: mine"):
            txn.get("mine")
        raise KeyError

    with pytest.raises(KeyError):
        in_block(False, body)
    assert seen == [["a"], (["a"], 1, 0)]


def test_hooks_belong_to_the_run_of_their_task(story: Story, caplog) -> None:
    caplog.set_level(logging.INFO)

    @task(persist_result=True)
    def named() -> None:
        pass

    @named.on_commit
    async def tell(txn: Any) -> None:
        get_run_logger().info("from the hook")

    in_block(False, lambda txn: named())
    said = {record.message: getattr(record, "task_run_name", None) for record in caplog.records}
    for line in ("Running commit hook 'tell'", "from the hook", "Commit hook 'tell' finished running successfully"):
        assert said[line] == "named-0"


@BY_BOTH
def test_async_hooks_are_awaited_in_both_kinds_of_block(story: Story, is_async: bool) -> None:
    a = story.task("a")

    @a.on_commit
    async def slow(txn: Any) -> None:
        await anyio.lowlevel.checkpoint()
        story.told.append("awaited")

    in_block(is_async, lambda txn: a())
    assert story.told == ["a", "a committed", "awaited"]


def test_a_failing_commit_hook_rolls_everything_back_and_is_logged(story: Story, recorded: Recorded, caplog) -> None:
    a, b = story.task("a"), story.task("b")

    @b.on_commit
    def refuses(txn: Any) -> None:
        raise OSError("disk")

    def body(txn: Any) -> Any:
        a()
        b()
        return txn

    txn = in_block(False, body, key="k")
    assert txn.is_rolled_back()
    assert story.told == ["a", "b", "a committed", "b committed", "b undone", "a undone"]
    assert kept(recorded, "a") == [False]
    assert "An error was encountered while running commit hook 'refuses'" in caplog.text
    assert "An error was encountered while committing transaction 'k'" in caplog.text


def test_a_failing_rollback_hook_keeps_no_other_from_running(story: Story, caplog) -> None:
    a, b = story.task("a"), story.task("b")

    @b.on_rollback
    def refuses(txn: Any) -> None:
        raise OSError("disk")

    def body(txn: Any) -> None:
        a()
        b()
        assert txn.rollback() is True
        assert txn.rollback() is False

    in_block(False, body)
    assert story.told == ["a", "b", "b undone", "a undone"]
    assert "An error was encountered while running rollback hook 'refuses'" in caplog.text
    assert "An error was encountered while rolling back transaction" in caplog.text


def test_an_interrupt_rolls_back_and_goes_on(story: Story) -> None:
    a = story.task("a")
    with pytest.raises(KeyboardInterrupt), transaction():
        a()
        raise KeyboardInterrupt
    assert story.told == ["a", "a undone"]


def test_a_block_outside_of_flows_holds_whole_flows(story: Story, recorded: Recorded) -> None:
    a = story.task("a")
    inner = flow(lambda: a(5), name="inner", persist_result=True)
    with pytest.raises(ValueError), transaction():
        assert inner() == 5
        raise ValueError
    assert story.told == ["a", "a undone"]
    assert kept(recorded, "a") == [False]
    with transaction():
        inner()
    assert kept(recorded, "a") == [False, True]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_block_that_is_cancelled_is_rolled_back_to_the_end(story: Story, backend: str) -> None:
    a = story.task("a")

    @a.on_rollback
    async def takes_its_time(txn: Any) -> None:
        await anyio.lowlevel.checkpoint()
        story.told.append("after a while")

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with atransaction():
                a()
                scope.cancel()
                await anyio.sleep_forever()

    anyio.run(main, backend=backend)
    assert story.told == ["a", "after a while", "a undone"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_block_in_a_flow_of_either_loop_commits(story: Story, recorded: Recorded, backend: str) -> None:
    a = story.task("a")

    @flow
    async def around() -> None:
        async with atransaction():
            await a.submit()

    anyio.run(around, backend=backend)
    assert story.told == ["a", "a committed"]
    assert kept(recorded, "a") == [True]
