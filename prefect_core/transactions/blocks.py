"""Transactions as `with` blocks, on a thread and on an event loop."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, NoReturn, Self

from prefect_core import context, moments
from prefect_core.context import TaskRunContext
from prefect_core.locking import IsolationLevel, KeyLock
from prefect_core.moments import Moments, Work
from prefect_core.state_kinds import COMPLETED
from prefect_core.transactions.ending import committing, ending, handing_up, rolling_back
from prefect_core.transactions.keyed import Found, KeyOfTransaction
from prefect_core.transactions.kinds import CommitMode, TransactionState
from prefect_core.transactions.node import BaseTransaction, Member, RunTransaction

if TYPE_CHECKING:
    from prefect_core.context import RunContext

_innermost: ContextVar[Block | None] = ContextVar("prefect_core.transaction", default=None)


def get_transaction() -> BaseTransaction | None:
    """Return the innermost transaction that this code is in: a block, or the task run itself; None outside of both."""
    here, block = context.current(), _innermost.get()
    if block is not None and block.around is here:
        return block
    if here is None:
        return None
    if here.transaction is None and isinstance(here, TaskRunContext):
        here.transaction = RunTransaction(None, here)
    transaction: BaseTransaction | None = here.transaction
    return transaction


def enclosing(around: RunContext | None) -> BaseTransaction | None:
    """Return the transaction that a call made here, in the run of `around`, takes part in; None outside of all blocks."""
    block = _innermost.get()
    node: BaseTransaction | None
    if block is not None and block.around is around:
        node = block
    else:
        node = around.transaction if around is not None else None
    while node is not None and (node.is_over or node.is_committed()):
        node = node.parent
    return node if node is not None and node.root.is_block else None


class Block(BaseTransaction):
    """What both kinds of block have in common."""

    is_block = True

    def __init__(
        self,
        key: str | None = None,
        store: Any = None,
        commit_mode: CommitMode | None = None,
        isolation_level: IsolationLevel | None = None,
        **options: Any,
    ) -> None:
        around = context.current()
        super().__init__(enclosing(around), around)
        self._options = {"key": key, "store": store, "commit_mode": commit_mode, "isolation_level": isolation_level}
        self._options |= options
        self.key = key
        self.commit_mode = commit_mode or self.commit_mode
        self.isolation_level = isolation_level or self.isolation_level
        self.overwrite: bool = options.get("overwrite", False)
        self.write_on_commit: bool = options.get("write_on_commit", True)
        self.logger = options.get("logger")
        self._key_of = KeyOfTransaction(self, key, store) if key is not None else None
        self._lock: KeyLock | None = None
        self._token: Token[Block | None] | None = None

    def _enter(self) -> None:
        if self._token is not None or self.is_over:
            raise RuntimeError("Context already entered. Context enter calls cannot be nested.")
        self._token = _innermost.set(self)

    def _leave(self) -> None:
        self.is_over = True
        if self._token is not None:
            _innermost.reset(self._token)
            self._token = None

    def _beginning(self) -> Moments[None]:
        self.state = TransactionState.ACTIVE
        if self._key_of is None:
            return
        look = self._key_of.find if not self.overwrite else _nothing
        found: Found | None
        if self.isolation_level is IsolationLevel.SERIALIZABLE:
            lock = self._lock = self._key_of.lock()
            try:
                found = yield from lock.taking(look)
            except BaseException:
                lock.release()
                raise
            self.last.append(lock.release)
        else:
            found = yield Work(look)
        if found is not None:
            self._value = found.value
            self.state = TransactionState.COMMITTED

    def _ending(self, error: BaseException | None) -> Moments[None]:
        """End the block, after the runs that were submitted in it. Raises what one of them failed with that nobody asked for."""
        try:
            if error is None or isinstance(error, Exception):
                failed = yield from self._awaiting(withdraws=error is not None)
                if error is None and failed is not None:
                    failed.future.state.result()
        except GeneratorExit:
            raise
        except BaseException:
            yield from self._undoing()
            raise
        yield from ending(self) if error is None else self._undoing()

    def _undoing(self) -> Moments[None]:
        yield from rolling_back(self)
        if self.parent is not None:
            yield from handing_up(self)

    def _awaiting(self, *, withdraws: bool) -> Moments[Member | None]:
        """Wait for the runs that were submitted in the block; returns the first that did not complete and that nobody asked for."""
        failed = None
        if withdraws:
            for member in list(self.members):
                member.withdraw()
        for member in self.members:  # it may grow meanwhile
            if not member.future.done():
                yield member.future
            is_unheard = member.is_own and not member.future.was_asked
            if failed is None and is_unheard and member.future.state.type is not COMPLETED:
                failed = member
        return failed

    def take_value(self) -> None:
        key_of, self._key_of = self._key_of, None
        if key_of is not None and self.write_on_commit and self.is_staged():
            kept = key_of.keep(self._value)
            self.hold(kept)
            self.published.append(key_of.publishing(kept))


def _nothing() -> None:
    return None


class Transaction(Block):
    """A transaction around the code of a `with` block."""

    def __enter__(self) -> Self:
        self._enter()
        try:
            moments.run(self._beginning())
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            moments.run(self._ending(error))
        finally:
            self._leave()

    def commit(self) -> bool:
        """Commit now; False if it had ended, or has to be rolled back."""
        return moments.run(committing(self))

    def rollback(self) -> bool:
        """Roll back now; False if it had ended, or a hook failed."""
        return moments.run(rolling_back(self))

    async def __aenter__(self) -> AsyncTransaction:
        self._twin = AsyncTransaction(**self._options)
        return await self._twin.__aenter__()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self._twin.__aexit__(kind, error, trace)


class AsyncTransaction(Block):
    """A transaction around the code of an `async with` block."""

    async def __aenter__(self) -> Self:
        self._enter()
        try:
            await moments.arun(self._beginning())
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            await moments.arun(self._ending(error))
        finally:
            self._leave()

    async def commit(self) -> bool:
        """Commit now; False if it had ended, or has to be rolled back."""
        return await moments.arun(committing(self))

    async def rollback(self) -> bool:
        """Roll back now; False if it had ended, or a hook failed."""
        return await moments.arun(rolling_back(self))

    def __enter__(self) -> NoReturn:
        raise TypeError(
            "An AsyncTransaction is entered by `async with`; `with transaction(...)` is for code that is not async."
        )

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """There is no way in."""
