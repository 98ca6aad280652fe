"""The faces of transactions: states, contexts, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_core import flow, task
from prefect_core.transactions import (
    CommitMode,
    IsolationLevel,
    TransactionState,
    atransaction,
    get_transaction,
    transaction,
)

pytestmark = pytest.mark.usefixtures("recorded")


def test_a_transaction_goes_through_its_states() -> None:
    txn = transaction(key="k")
    states = [txn.state]
    with txn:
        states.append(txn.state)
        txn.stage(1)
        states.append(txn.state)
    states.append(txn.state)
    assert states == [
        TransactionState.PENDING,
        TransactionState.ACTIVE,
        TransactionState.STAGED,
        TransactionState.COMMITTED,
    ]
    assert (txn.is_pending(), txn.is_active(), txn.is_staged(), txn.is_committed()) == (False, False, False, True)


def test_there_is_no_transaction_outside() -> None:
    assert get_transaction() is None
    with transaction() as outer:
        assert get_transaction() is outer
        with transaction() as inner:
            assert get_transaction() is inner
        assert get_transaction() is outer
        # Inside another run, it is that run's.
        assert flow(lambda: task(lambda: get_transaction())() is outer)() is False
    assert get_transaction() is None


def test_a_context_can_not_be_entered_twice() -> None:
    with transaction() as txn, pytest.raises(RuntimeError, match="Context already entered"):
        txn.__enter__()
    with pytest.raises(RuntimeError, match="Context already entered"):
        txn.__enter__()


def test_an_async_transaction_says_how_it_is_entered() -> None:
    with pytest.raises(TypeError, match="`async with`"), atransaction():
        pass


@pytest.mark.parametrize(
    "options",
    [
        {"key": 1},
        {"commit_mode": "LAZY"},
        {"isolation_level": "SERIALIZABLE"},
        {"store": 5, "key": "k"},
        {"unknown": 1},
    ],
)
def test_what_can_not_work_is_refused(options: Any) -> None:
    with pytest.raises(TypeError):
        transaction(**options)
    with pytest.raises(TypeError):
        atransaction(**options)


def test_modes_and_levels_are_inherited() -> None:
    with (
        transaction(commit_mode=CommitMode.OFF, isolation_level=IsolationLevel.SERIALIZABLE) as outer,
        transaction() as inner,
    ):
        assert (inner.commit_mode, inner.isolation_level) == (outer.commit_mode, outer.isolation_level)
    with transaction() as plain:
        assert (plain.commit_mode, plain.isolation_level) == (CommitMode.LAZY, IsolationLevel.READ_COMMITTED)
