"""A transaction as a node of a tree: blocks in blocks, and task runs in them, each with its hooks, its values, and what it holds back.

What is held back are the stored values of runs: they are written when the outermost transaction commits, all in one transaction of the
history, or never. How a node ends stands in `ending`.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect_core.locking import IsolationLevel
from prefect_core.options import NOT_SET, TransactionHook
from prefect_core.transactions.kinds import ENDED, CommitMode, TransactionState

if TYPE_CHECKING:
    from prefect_core.context import RunContext
    from prefect_core.futures import PrefectFuture
    from prefect_core.results.kept import KeptValue


class Member(NamedTuple):
    """A submitted run that takes part in a block."""

    future: PrefectFuture[Any]
    is_own: bool
    """Whether the block's own code submitted it, so that nobody else hears of its failure."""
    withdraw: Callable[[], object]
    """Cancels it if it has not begun."""


class BaseTransaction:
    """What blocks and task runs have in common as transactions."""

    is_block = False
    key: str | None

    def __init__(self, parent: BaseTransaction | None, around: RunContext | None) -> None:
        self.parent = parent
        self.around = around
        """The run whose body the block stands in; the task run itself for one of a task run."""
        self.key = None
        self.logger: Any = None
        self.commit_mode: CommitMode = parent.commit_mode if parent is not None else CommitMode.LAZY
        self.isolation_level: IsolationLevel = (
            parent.isolation_level if parent is not None else IsolationLevel.READ_COMMITTED
        )
        self.state = TransactionState.PENDING
        self.children: list[BaseTransaction] = []
        self.on_commit_hooks: list[TransactionHook] = []
        self.on_rollback_hooks: list[TransactionHook] = []
        self.is_over = False
        self.is_committing = False
        self.guard: threading.Lock = parent.guard if parent is not None else threading.Lock()
        self._value: Any = NOT_SET
        self._values: dict[str, Any] = {}
        # For the engine.
        self.held: list[KeptValue] = []
        self.members: list[Member] = []
        self.undone: list[Callable[[], object]] = []
        """Called when it was rolled back."""
        self.published: list[Callable[[], object]] = []
        """Called when what it held is durable."""
        self.last: list[Callable[[], object]] = []
        """Called when it has ended either way; may block."""
        self.found: dict[str, KeptValue] = {}
        """In an outermost one: values that are staged in it, by the address of their cache key."""

    @property
    def root(self) -> BaseTransaction:
        """The outermost transaction."""
        node = self
        while node.parent is not None:
            node = node.parent
        return node

    def is_active(self) -> bool:
        return self.state is TransactionState.ACTIVE

    def is_pending(self) -> bool:
        return self.state is TransactionState.PENDING

    def is_staged(self) -> bool:
        return self.state is TransactionState.STAGED

    def is_committed(self) -> bool:
        return self.state is TransactionState.COMMITTED

    def is_rolled_back(self) -> bool:
        return self.state is TransactionState.ROLLED_BACK

    def stage(
        self,
        value: Any,
        on_rollback_hooks: Iterable[TransactionHook] | None = None,
        on_commit_hooks: Iterable[TransactionHook] | None = None,
    ) -> None:
        """Give the value that is kept under the key when the transaction commits, and hooks to call then, or when it is rolled back.

        Does nothing in a transaction that has ended.
        """
        if self.state in ENDED:
            return
        self._value = value
        self.on_rollback_hooks += on_rollback_hooks or ()
        self.on_commit_hooks += on_commit_hooks or ()
        self.state = TransactionState.STAGED

    def read(self) -> Any:
        """Return the value that is staged, or that was committed under the key; None if there is none."""
        return None if self._value is NOT_SET else self._value

    def has_value(self) -> bool:
        """Tell whether there is a value to read."""
        return self._value is not NOT_SET

    def set(self, name: str, value: Any) -> None:
        """Keep something by name, for the code and the hooks of this transaction and of those inside it."""
        self._values[name] = value

    def get(self, name: str, default: Any = NOT_SET) -> Any:
        """Return a copy of what was set here or in a transaction around. Raises `ValueError` for what is not, without a `default`."""
        node: BaseTransaction | None = self
        while node is not None:
            if name in node._values:
                return copy.deepcopy(node._values[name])
            node = node.parent
        if default is NOT_SET:
            raise ValueError(f"Could not retrieve value for unknown key: {name}")
        return default

    # What the engine asks and says.

    def hold(self, kept: KeptValue) -> None:
        """Take a value that is to be told of when this commits."""
        kept.hold()
        self.held.append(kept)

    def take_value(self) -> None:
        """Hold the staged value, if it is to be kept. Raises what says why it can't be."""

    def block(self) -> BaseTransaction:
        """Return the innermost block that this is or stands in."""
        node = self
        while not node.is_block and node.parent is not None:
            node = node.parent
        return node

    def expect(self, future: PrefectFuture[Any], submitter: RunContext | None, withdraw: Callable[[], object]) -> None:
        """Take a submitted run whose end the block waits for."""
        block = self.block()
        block.members.append(Member(future, submitter is block.around, withdraw))

    def open_nodes(self) -> Iterator[BaseTransaction]:
        """Give this and all inside it that have not ended, the inner ones first."""
        if self.state in ENDED:
            return
        for child in self.children:
            yield from child.open_nodes()
        yield self

    def __repr__(self) -> str:
        name = f" {self.key!r}" if self.key is not None else ""
        return f"<{type(self).__name__}{name}: {self.state.value}>"


class RunTransaction(BaseTransaction):
    """The transaction that a task run is."""

    def __init__(self, parent: BaseTransaction | None, around: RunContext) -> None:
        super().__init__(parent, around)
        self.key = str(around.run.id)
        self.state = TransactionState.ACTIVE
