"""Who is around a piece of code that asks for slots: what they hold of a limit serves it too, so that nobody waits for itself."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator

from prefect_core.runs import Run, TaskRun

_blocks: contextvars.ContextVar[frozenset[int]] = contextvars.ContextVar("prefect_core.slots", default=frozenset())
"""The owners of the slots that blocks around this code hold."""

enter = _blocks.set
leave = _blocks.reset


def blocks_among(variables: contextvars.Context | None) -> frozenset[int]:
    """Return the blocks around the place where these context variables were copied; around this one, if they are None."""
    return _blocks.get() if variables is None else variables.get(_blocks, frozenset())


def runs_around(run: Run | None) -> Iterator[int]:
    """Give the uids of a run and of all runs that it is inside of."""
    seen: set[int] = set()
    ahead = [run]
    while ahead:
        one = ahead.pop()
        if one is None or one.uid in seen:
            continue
        seen.add(one.uid)
        yield one.uid
        ahead.append(one.parent_task_run)
        if isinstance(one, TaskRun):
            ahead.append(one.flow_run)
