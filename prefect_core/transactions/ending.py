"""How a transaction ends: it commits, is rolled back, or is handed up to the one around it.

    commit      the hooks of all that is inside it, then its own; then everything that was held back is written, whole, and durable
    roll back   its own hooks, the last one first; then what is inside it, the last first
    hand up     a lazy one leaves both to the transaction around it; one that was rolled back takes that with it

Nothing is half committed: a hook that fails, a full disk, an object that can't be written roll everything back. Hooks of a roll-back that
fail are logged, and the others run all the same.
"""

from __future__ import annotations

import contextvars
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from prefect_core import context, logs
from prefect_core.errors import HistoryError
from prefect_core.logs import prints
from prefect_core.moments import Moments, Work
from prefect_core.options import TransactionHook, hook_name, is_async
from prefect_core.transactions.kinds import ENDED, CommitMode, TransactionState
from prefect_core.transactions.writing import wait_until, writing

if TYPE_CHECKING:
    from prefect_core.transactions.node import BaseTransaction

_log = logging.getLogger("prefect_core.transactions")


def ending(node: BaseTransaction) -> Moments[None]:
    """End a transaction whose code has ended well: as its mode says."""
    if node.commit_mode is CommitMode.EAGER:
        yield from committing(node)
    if node.parent is not None:
        yield from handing_up(node)
    elif node.commit_mode is CommitMode.OFF:
        yield from rolling_back(node)
    else:
        yield from committing(node)


def handing_up(node: BaseTransaction) -> Moments[None]:
    """Make a transaction part of the one around it, which ends it, or has ended and takes it along."""
    parent = node.parent
    while parent is not None:
        with parent.guard:
            is_open = parent.state not in ENDED and not parent.is_committing
            if is_open:
                parent.children.append(node)
        if is_open:
            if node.is_rolled_back():
                yield from rolling_back(parent)
            return
        if parent.is_rolled_back():
            yield from rolling_back(node)
            return
        parent = parent.parent
    yield from committing(node)


def committing(node: BaseTransaction) -> Moments[bool]:
    """Commit a transaction with all that is inside it. Returns False if it had ended, or had to be rolled back, which is logged."""
    with node.guard:
        if node.state in ENDED or node.is_committing:
            return False
        node.is_committing = True
    nodes = list(node.open_nodes())
    try:
        for inner in nodes:
            for hook in inner.on_commit_hooks:
                yield from _calling(hook, inner, "commit")
        done = yield from writing(nodes)
    except GeneratorExit:
        raise
    except BaseException as error:
        yield from _given_up(node, error)
        if not isinstance(error, Exception):
            raise
        return False
    try:
        if done is not None:
            yield Work(partial(wait_until, done))
    except HistoryError as error:
        yield from _given_up(node, error)
        return False
    except BaseException as error:
        # What is handed over is written, whatever interrupts the wait for it, or keeps it from beginning.
        yield from _closing(nodes)
        if not isinstance(error, Exception):
            raise
        return True
    yield from _closing(nodes)
    return True


def _closing(nodes: list[BaseTransaction]) -> Moments[None]:
    for node in nodes:
        node.state = TransactionState.COMMITTED
    yield from _last_calls([(call, node) for node in nodes for call in (*node.published, *node.last)])


def _given_up(node: BaseTransaction, error: BaseException) -> Moments[None]:
    say(node, logs.ERROR, f"An error was encountered while committing transaction {node.key!r}", error)
    yield from rolling_back(node)


def rolling_back(node: BaseTransaction) -> Moments[bool]:
    """Roll a transaction back with all that is inside it. Returns False if it had ended, or a hook of its own failed, which is logged."""
    with node.guard:
        if node.state in ENDED:
            return False
        node.state = TransactionState.ROLLED_BACK
    failures: list[BaseException] = []
    for hook in reversed(node.on_rollback_hooks):
        try:
            yield from _calling(hook, node, "rollback")
        except GeneratorExit:
            raise
        except BaseException as error:
            failures.append(error)
    for undone in node.undone:
        undone()
    for child in reversed(node.children):
        yield from rolling_back(child)
    yield from _last_calls([(call, node) for call in node.last])
    if failures:
        say(node, logs.ERROR, f"An error was encountered while rolling back transaction {node.key!r}")
    for failure in failures:
        if not isinstance(failure, Exception):
            # An interrupt, which waited until everything was rolled back.
            raise failure
    return not failures


def _last_calls(calls: list[tuple[Callable[[], object], BaseTransaction]]) -> Moments[None]:
    if not calls:
        return
    left = deque(calls)
    try:
        yield Work(partial(_call_all, left))
    except GeneratorExit:
        raise
    except BaseException:
        # An interrupt that came before: nobody else would let go of locks.
        _call_all(left)
        raise


def _call_all(left: deque[tuple[Callable[[], object], BaseTransaction]]) -> None:
    while left:
        call, node = left.popleft()
        try:
            call()
        except Exception as error:
            say(node, logs.WARNING, "A transaction has ended, but something that it leaves to be done failed", error)


def _calling(hook: TransactionHook, node: BaseTransaction, kind: str) -> Moments[None]:
    name = hook_name(hook)
    say(node, logs.INFO, f"Running {kind} hook {name!r}")
    is_coroutine = is_async(hook)
    try:
        yield Work(partial(_acall if is_coroutine else _call, hook, node), is_coroutine)
    except Exception as error:
        say(node, logs.ERROR, f"An error was encountered while running {kind} hook {name!r}", error)
        raise
    say(node, logs.INFO, f"{kind.capitalize()} hook {name!r} finished running successfully")


def _call(hook: TransactionHook, node: BaseTransaction) -> None:
    # A copy, since a hook of a task runs in the context of that task's run.
    contextvars.copy_context().run(_call_inside, hook, node)


def _call_inside(hook: TransactionHook, node: BaseTransaction) -> None:
    if node.around is None:
        hook(node)
        return
    context.enter(node.around)
    with prints.logged(node.around):
        hook(node)


async def _acall(hook: TransactionHook, node: BaseTransaction) -> None:
    if node.around is None:
        await hook(node)
        return
    token = context.enter(node.around)
    try:
        with prints.logged(node.around):
            await hook(node)
    finally:
        context.leave(token)


def say(node: BaseTransaction, level: int, message: str, error: BaseException | None = None) -> None:
    """Log a line of a transaction: to the logger that it was given, else with the run that it is of."""
    if node.logger is not None:
        node.logger.log(level, message, exc_info=error)
    elif node.around is not None:
        logs.note(node.around, level, message, error)
    else:
        _log.log(level, message, exc_info=error)
