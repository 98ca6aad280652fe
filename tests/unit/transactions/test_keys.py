"""Transactions with a key: a value that is kept under it, and one at a time."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from prefect_core import flow
from prefect_core.errors import SerializationError
from prefect_core.locking import MemoryLockManager, turns
from prefect_core.results import ResultStore
from prefect_core.results.kept import KeptValue
from prefect_core.testing import harness
from prefect_core.transactions import (
    IsolationLevel,
    transaction,
)
from tests.unit.transactions.story import BY_BOTH, in_block

pytestmark = pytest.mark.usefixtures("recorded")


@BY_BOTH
def test_a_value_that_was_committed_under_a_key_is_read_by_the_next(is_async: bool) -> None:
    computed = []

    def body(txn: Any) -> Any:
        if not txn.is_committed():
            computed.append(1)
            txn.stage({"rows": 5})
        return txn.read()

    assert [in_block(is_async, body, key="report") for _ in range(3)] == [{"rows": 5}] * 3
    assert computed == [1]
    in_block(is_async, body, key="report", overwrite=True)
    assert computed == [1, 1]
    in_block(is_async, body, key="other", write_on_commit=False)
    in_block(is_async, body, key="other")
    assert len(computed) == 4


def test_a_key_may_stand_in_a_place_that_histories_share(tmp_path: Path) -> None:
    from tests.unit.recorded import in_memory

    def value(store: Any, new: Any) -> Any:
        with in_memory(), transaction(key="../report", store=store) as txn:
            if not txn.is_committed():
                txn.stage(new)
            return txn.read()

    assert [value(tmp_path, 1), value(str(tmp_path), 2), value(ResultStore(tmp_path, "json"), 3)] == [1, 1, 1]
    assert not list(tmp_path.parent.glob("report*"))


def test_values_of_histories_that_share_a_place_never_take_each_others_name(tmp_path: Path) -> None:
    kept = []
    for value in ("first", "second"):
        with harness() as world:
            with transaction(key="report", store=tmp_path, overwrite=True) as txn:
                txn.stage(value)
            kept += [KeptValue.of_row(row) for row in world.store.results()]
    assert [one.load() for one in kept] == ["first", "second"]


@pytest.mark.parametrize("is_in_flow", [True, False])
def test_what_a_key_leaves_is_sound_and_goes_when_it_is_replaced(is_in_flow: bool) -> None:
    def commits(value: bytes) -> None:
        with transaction(key="k", overwrite=True) as txn:
            txn.stage(value)

    with harness(history="sqlite") as world:
        for value in (b"1" * 20_000, b"2" * 20_000):
            flow(commits)(value) if is_in_flow else commits(value)
        assert world.store.check() == []
        (row,) = world.store.results()
        cached = world.store.cached("k")
        assert cached is not None
        assert cached.result.key == row.key
        assert bool(cached.run) == is_in_flow
        # The object of the one before is to be deleted.
        assert len(world.store.doomed(9)) == 1


def test_of_two_that_are_serializable_the_second_reads_what_the_first_wrote() -> None:
    first_is_in, seen = threading.Event(), []

    def first() -> None:
        with transaction(key="k", isolation_level=IsolationLevel.SERIALIZABLE) as txn:
            first_is_in.set()
            txn.stage("first")

    def second() -> None:
        first_is_in.wait(20)
        with transaction(key="k", isolation_level=IsolationLevel.SERIALIZABLE) as txn:
            seen.append((txn.is_committed(), txn.read()))

    threads = [threading.Thread(target=second), threading.Thread(target=first)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen == [(True, "first")]
    assert turns._turns == {}


def test_a_store_brings_its_own_locks() -> None:
    locks = MemoryLockManager()
    with transaction(
        key="own", store=ResultStore(lock_manager=locks), isolation_level=IsolationLevel.SERIALIZABLE
    ) as txn:
        assert locks.is_locked("own")
        txn.stage(1)
    assert not locks.is_locked("own")


def test_a_value_that_can_not_be_stored_rolls_back_with_a_reason(caplog) -> None:
    with transaction(key="k") as txn:
        txn.stage(threading.Lock())
    assert txn.is_rolled_back()
    (error,) = {record.exc_info[1] for record in caplog.records if record.exc_info}
    assert isinstance(error, SerializationError)
    assert "Encountered an error while serializing result for transaction 'k'" in str(error)


def test_lines_go_to_the_logger_that_was_given(caplog) -> None:
    caplog.set_level(logging.INFO)
    with transaction(logger=logging.getLogger("mine")) as txn:
        txn.stage(1, on_commit_hooks=[lambda txn: None])
    assert {record.name for record in caplog.records} == {"mine"}
