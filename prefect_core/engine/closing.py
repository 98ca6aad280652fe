"""The end of a task run as a transaction: alone, it commits; in a block, it becomes part of that, which commits it or rolls it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_core import logs
from prefect_core.engine.keeping import ROLLED_BACK_REASON
from prefect_core.engine.steps import Life, of_moments
from prefect_core.state_kinds import COMPLETED
from prefect_core.transactions import ending, handing_up, rolling_back

if TYPE_CHECKING:
    from prefect_core.engine.task_call import TaskCall
    from prefect_core.states import State
    from prefect_core.transactions import BaseTransaction


def close_transaction(call: TaskCall, state: State, node: BaseTransaction) -> Life[None]:
    """End the run's transaction."""
    has_run, task = call.has_returned, call.task
    if has_run:
        # What a body has done is undone by its hooks; a result that was there before, or a body that raised, has none.
        node.undone.append(lambda: logs.note(call.context, logs.INFO, f"Rolled back: {ROLLED_BACK_REASON}."))
        node.stage(state.data, task.on_rollback_hooks, task.on_commit_hooks)
    if state.type is COMPLETED:
        yield from of_moments(ending(node))
        return
    node.on_commit_hooks.clear()
    if has_run or node.parent is None:
        yield from of_moments(rolling_back(node))
    if node.parent is not None:
        # What a body has raised rolls the block back only if nobody catches it there.
        yield from of_moments(handing_up(node))
