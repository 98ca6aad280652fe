"""Transactions: runs whose results are kept together or not at all, and what is done when they are, or are not.

    with transaction() as txn:
        first()          # their results are stored when the block is left well; if it is left by an exception, the hooks that
        second()         # `@first.on_rollback` has put there run, the last run's first, and nothing is stored

A transaction inside another leaves its end to the outermost one. Every task run is one too, with the hooks `on_commit` and `on_rollback`
of its task. When the `with` block of the outermost has been left, what it committed is durable.

    kinds    states and modes          node     the tree              blocks    `with` and `async with`
    ending   commit and roll back      writing  what a commit writes  keyed     a value under a key
"""

from __future__ import annotations

from typing import Any

from prefect_core.locking import IsolationLevel
from prefect_core.transactions.blocks import AsyncTransaction, Transaction, enclosing, get_transaction
from prefect_core.transactions.ending import ending, handing_up, rolling_back
from prefect_core.transactions.kinds import CommitMode, TransactionState
from prefect_core.transactions.node import BaseTransaction, RunTransaction

__all__ = [
    "AsyncTransaction",
    "BaseTransaction",
    "CommitMode",
    "IsolationLevel",
    "RunTransaction",
    "Transaction",
    "TransactionState",
    "atransaction",
    "enclosing",
    "ending",
    "get_transaction",
    "handing_up",
    "rolling_back",
    "transaction",
]


def transaction(
    key: str | None = None,
    store: Any = None,
    commit_mode: CommitMode | None = None,
    isolation_level: IsolationLevel | None = None,
    **options: Any,
) -> Transaction:
    """Return a transaction, to be entered by `with`.

    `key` names a value that is staged in it and found by later transactions of that key: in the history, or in `store` (a folder, a URL
    or a `ResultStore`). A transaction whose key has a value is committed when it begins. `commit_mode` and `isolation_level` are those
    of the transaction around where they are not given. Further options: `overwrite=True` leaves an earlier value alone until it is
    replaced, `write_on_commit=False` keeps none, `logger` takes the lines about this transaction.
    """
    _check(key, commit_mode, isolation_level, options)
    return Transaction(key, store, commit_mode, isolation_level, **options)


def atransaction(
    key: str | None = None,
    store: Any = None,
    commit_mode: CommitMode | None = None,
    isolation_level: IsolationLevel | None = None,
    **options: Any,
) -> AsyncTransaction:
    """Return a transaction, to be entered by `async with`; its `commit` and `rollback` are awaited. Takes what `transaction` takes."""
    _check(key, commit_mode, isolation_level, options)
    return AsyncTransaction(key, store, commit_mode, isolation_level, **options)


def _check(key: Any, commit_mode: Any, isolation_level: Any, options: dict[str, Any]) -> None:
    for name, value, kind in (
        ("key", key, str),
        ("commit_mode", commit_mode, CommitMode),
        ("isolation_level", isolation_level, IsolationLevel),
    ):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"Expected a {kind.__name__} for {name!r} of a transaction; got {value!r}.")
    unknown = sorted(set(options) - {"overwrite", "write_on_commit", "logger"})
    if unknown:
        raise TypeError(f"A transaction takes no option {', '.join(map(repr, unknown))}.")
