"""Cached and stored results inside a transaction: seen by it, and by others when it commits."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from prefect_core import flow, task
from prefect_core.cache_policies import INPUTS
from prefect_core.errors import StorageError
from prefect_core.locking import turns
from prefect_core.storage.local import LocalStorage
from prefect_core.transactions import (
    IsolationLevel,
    transaction,
)
from tests.unit.recorded import Recorded
from tests.unit.transactions.story import Story, bodies_ran, in_block

pytestmark = pytest.mark.usefixtures("recorded")


def test_calls_of_one_transaction_find_what_is_staged_in_it_and_others_do_not(recorded: Recorded) -> None:
    ran, outside = [], []
    cached = task(lambda x: ran.append(x) or x, name="cached", cache_policy=INPUTS.configure(isolation_level=None))

    def body(txn: Any) -> None:
        cached(1)
        assert cached(1, return_state=True).name == "Cached"
        outside.append(recorded.store.results())
        raise ValueError

    with pytest.raises(ValueError):
        in_block(False, body)
    assert ran == [1]
    assert outside == [[]]
    with pytest.raises(ValueError):
        in_block(False, body)
    assert ran == [1, 1]
    in_block(False, lambda txn: cached(1) + cached(1))
    cached(1)
    assert ran == [1, 1, 1]
    assert [recorded.store.kept(row.key) is not None for row in recorded.task_runs("cached")][-3:] == [True] * 3


def test_many_calls_of_one_key_in_one_block_do_not_wait_for_its_end() -> None:
    ran = []
    policy = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)
    cached = task(lambda x: ran.append(x) or x, cache_policy=policy)

    @flow(task_runner="concurrent:2")
    def around() -> Any:
        with transaction():
            return cached.map([1, 2] * 20).result()

    assert around() == [1, 2] * 20
    assert sorted(ran) == [1, 2]
    assert turns._turns == {}


def test_others_wait_for_the_end_of_a_transaction_that_has_the_key() -> None:
    ran = []
    policy = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)
    cached = task(lambda x: ran.append(x) or x, cache_policy=policy)
    staged, is_waiting = threading.Event(), threading.Event()

    @flow
    def second() -> Any:
        staged.wait(20)
        future = cached.submit(1)
        is_waiting.set()
        return future.result()

    @flow
    def first() -> None:
        with transaction():
            cached(1)
            staged.set()
            is_waiting.wait(20)

    other = threading.Thread(target=second)
    other.start()
    first()
    other.join(20)
    assert ran == [1]


def test_objects_are_written_only_by_the_commit(recorded: Recorded, tmp_path: Path) -> None:
    big = task(lambda: b"x" * 100_000, name="big", persist_result=True, result_storage=tmp_path)

    def body(txn: Any) -> None:
        assert big.with_options(cache_result_in_memory=False)() == b"x" * 100_000
        assert list(tmp_path.iterdir()) == []

    in_block(False, body)
    assert [path.stat().st_size > 100_000 for path in tmp_path.rglob("*") if path.is_file()] == [True]
    row = recorded.store.kept(recorded.task_runs("big")[0].key)
    assert row is not None
    assert row.result.size > 100_000


def test_a_full_disk_at_the_commit_leaves_nothing(
    story: Story, recorded: Recorded, tmp_path: Path, monkeypatch
) -> None:
    a, b = (story.task(name, result_storage=tmp_path) for name in "ab")
    write = LocalStorage.write

    def full(self: LocalStorage, key: str, pieces: Any) -> Any:
        if any(path.is_file() for path in tmp_path.rglob("*")):
            raise StorageError("no space left")
        return write(self, key, pieces)

    monkeypatch.setattr(LocalStorage, "write", full)
    in_block(False, lambda txn: a(1) and b(2))
    assert story.told[-2:] == ["b undone", "a undone"]
    assert recorded.store.results() == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_retried_flow_runs_again_what_was_rolled_back_and_takes_over_what_was_committed(recorded: Recorded) -> None:
    ran = bodies_ran
    ran.clear()
    stored = task(lambda name: bodies_ran.append(name), name="stored", persist_result=True)

    @flow(retries=1, final_state_from="return_value")
    def twice() -> int:
        with transaction():
            stored("committed")
        with transaction():
            stored("rolled back")
            if len(ran) < 3:
                raise ValueError
        return 1

    twice()
    assert ran == ["committed", "rolled back", "rolled back"]
    assert recorded.unfinished() == []
