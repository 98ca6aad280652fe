"""Transactions in transactions, the runs inside them, and when each commits."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_core import flow, task
from prefect_core.transactions import (
    CommitMode,
    get_transaction,
    transaction,
)
from tests.unit.recorded import Recorded
from tests.unit.transactions.story import Story, in_block, kept

pytestmark = pytest.mark.usefixtures("recorded")


def test_a_nested_block_is_ended_by_the_outermost(story: Story, recorded: Recorded) -> None:
    a, b = story.task("a"), story.task("b")

    def body(txn: Any) -> None:
        with transaction() as inner:
            a()
        assert inner.parent is txn
        assert not inner.is_committed()
        assert kept(recorded, "a") == [False]
        b()

    in_block(False, body)
    assert story.told == ["a", "b", "a committed", "b committed"]


def test_a_nested_block_that_is_rolled_back_takes_the_outer_one_along(story: Story) -> None:
    a, b = story.task("a"), story.task("b")

    def body(txn: Any) -> None:
        a()
        with pytest.raises(ValueError), transaction():
            b()
            raise ValueError
        assert txn.is_rolled_back()

    in_block(False, body)
    assert story.told == ["a", "b", "b undone", "a undone"]


def test_an_eager_block_commits_at_its_own_end(story: Story, recorded: Recorded) -> None:
    a, b = story.task("a"), story.task("b")

    def body(txn: Any) -> None:
        with transaction(commit_mode=CommitMode.EAGER) as inner:
            a()
            assert kept(recorded, "a") == [True]
        assert inner.is_committed()
        b()
        raise ValueError

    with pytest.raises(ValueError):
        in_block(False, body)
    assert story.told == ["a", "a committed", "b", "b undone"]
    assert kept(recorded, "a") == [True]


def test_a_block_that_is_off_commits_only_by_hand(story: Story, recorded: Recorded) -> None:
    a, b = story.task("a"), story.task("b")

    def commits(txn: Any) -> None:
        a()
        assert txn.commit() is True
        assert txn.commit() is False
        assert kept(recorded, "a") == [True]

    in_block(False, commits, commit_mode=CommitMode.OFF)
    in_block(False, lambda txn: b() and None, commit_mode=CommitMode.OFF)
    assert story.told == ["a", "a committed", "b", "b undone"]


def test_what_is_called_after_a_commit_by_hand_is_kept_by_itself(story: Story, recorded: Recorded) -> None:
    a = story.task("a")

    def body(txn: Any) -> None:
        txn.commit()
        a()
        assert kept(recorded, "a") == [True]
        raise ValueError

    with pytest.raises(ValueError):
        in_block(False, body)
    assert story.told == ["a", "a committed"]


def test_tasks_in_tasks_and_subflows_take_part(story: Story, recorded: Recorded) -> None:
    a, b = story.task("a"), story.task("b")
    outer = task(lambda: a(), name="outer")
    inner_flow = flow(lambda: b.submit().result(), name="inner")

    def body(txn: Any) -> None:
        outer()
        inner_flow()
        raise ValueError

    with pytest.raises(ValueError):
        in_block(False, body)
    assert story.told == ["a", "b", "b undone", "a undone"]
    assert recorded.store.results() == []


def test_a_task_outside_of_blocks_is_a_transaction_of_its_own(story: Story, recorded: Recorded) -> None:
    a = story.task("a")
    outer = task(lambda: a(1) and get_transaction().is_active(), name="outer", persist_result=True)
    assert flow(lambda: outer())() is True
    assert story.told == ["a", "a committed"]
    assert kept(recorded, "a") == kept(recorded, "outer") == [True]


def test_what_a_body_stages_itself_is_called_too(story: Story) -> None:
    def body() -> None:
        get_transaction().stage(1, on_rollback_hooks=[story.hook("undone")], on_commit_hooks=[story.hook("committed")])
        if story.told:
            raise ValueError

    staging = task(body)
    staging()
    assert story.told == ["committed"]
    with pytest.raises(ValueError):
        staging()
    assert story.told == ["committed", "undone"]
