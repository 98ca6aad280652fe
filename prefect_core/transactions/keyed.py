"""The key of a transaction: what was committed under it before, the lock on it, and keeping a new value."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from prefect_core import clock, context, history, ids, loops
from prefect_core.cache_policies import NO_CACHE, address_of
from prefect_core.errors import ConfigurationError, HistoryError, PrefectException, SerializationError, describe
from prefect_core.locking import KeyLock
from prefect_core.locking.turns import Claimant
from prefect_core.results.index import Entry, index_at
from prefect_core.results.kept import KeptValue
from prefect_core.results.rules import Scope, outermost
from prefect_core.results.store import ResultStore
from prefect_core.serializers import describe_unserializable
from prefect_core.storage.keys import file_name_of

if TYPE_CHECKING:
    from prefect_core.results.rules import Plan
    from prefect_core.transactions.node import BaseTransaction

_log = logging.getLogger("prefect_core.transactions")


class Found:
    """A value that was committed before."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class KeyOfTransaction:
    """One transaction's key."""

    def __init__(self, node: BaseTransaction, key: str, store: Any) -> None:
        self._node = node
        self._key = key
        self._address = address_of(key)
        self._store = ResultStore.of(store)
        self._index = index_at(self._store.result_storage)

    def lock(self) -> KeyLock:
        """Return the lock on the key. Raises `ConfigurationError` where there is none to be had."""
        manager = self._store.lock_manager or NO_CACHE.locks
        around = self._node.around
        if around is not None and around.dispatcher is not None and not around.dispatcher.keeps_results:
            raise ConfigurationError(
                "Isolation level SERIALIZABLE is not supported by provided configuration: a worker process has no history that could hold "
                "the lock. Open the transaction in the flow, or give a store with a FileSystemLockManager."
            )
        loop = loops.running_loop()
        claimant = Claimant(0, (), self._node.root, lambda: loop)
        return KeyLock(self._address, manager, claimant)

    def find(self) -> Found | None:
        """Return the value that was committed under the key; None, with a warning if there is one, if it can't be had."""
        try:
            entry: Entry | None = self._index.find(self._address)
            if entry is None or (entry.expires_us is not None and entry.expires_us <= clock.now_us()):
                return None
            return Found(entry.kept.load())
        except HistoryError:
            raise
        except Exception as error:
            _log.warning("What was committed under the key %r can't be used: %s", self._key, describe(error))
            return None

    def keep(self, value: Any) -> KeptValue:
        """Make ready what is written when the transaction commits. Raises `SerializationError`, `ConfigurationError` or `ValueError`."""
        plan = self._plan()
        serializer = plan.serializer
        try:
            pieces = serializer.dump(value)
        except Exception as failure:
            raise SerializationError(
                f"Encountered an error while serializing result for transaction {self._key!r}: "
                f"{describe_unserializable(serializer, value, failure)} Code execution will continue, but the transaction will not be "
                "committed."
            ) from failure
        kept = KeptValue(history.current().new_key(), serializer.spec(), ())
        if sum(memoryview(piece).nbytes for piece in pieces) <= plan.most_inside:
            kept.put_inside(pieces)
        else:
            # The number of the result tells it from others of this history only, and others may write to the same storage.
            own = ids.as_text(ids.new_id(clock.now_us()))
            kept.put_outside_later(plan.storage.url, f"{file_name_of(self._key)}/{own}", pieces)
        kept.cached = (self._address, None)
        kept.around = self._node.around.run.key if self._node.around is not None else 0
        return kept

    def _plan(self) -> Plan:
        around = context.current()
        scope = (around.scope if around is not None else None) or outermost()
        storage, serializer = self._store.result_storage or scope.storage, self._store.serializer or scope.serializer
        plan = Scope(True, storage, serializer, False).plan(None)
        if plan is None:
            raise PrefectException("A scope that stores results has a plan for them.")
        return plan

    def publishing(self, kept: KeptValue) -> Any:
        """Return what lets the value be found once it is durable."""
        return partial(self._index.publish, self._address, kept, None, "")
