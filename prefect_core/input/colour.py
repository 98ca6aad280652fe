"""Whether the code that calls is async, so that it gets something to await, and must not be kept waiting."""

from __future__ import annotations

from typing import Any

from prefect_core import context, loops
from prefect_core.context import FlowRunContext, RunContext
from prefect_core.errors import BlockingWaitError


def is_awaited() -> bool:
    """Tell whether an event loop runs the code here: the body of an async flow or task, or what is in no run."""
    if loops.running_loop() is None:
        return False
    around = context.current()
    return around is None or _is_async(around)


def check_may_wait() -> None:
    """Raise `BlockingWaitError` where a wait would keep an event loop from all that a run has on it."""
    if loops.running_loop() is None:
        return
    around = context.current()
    may = around is not None
    while may and around is not None:
        may, around = not _is_async(around), around.parent
    if not may:
        raise BlockingWaitError(
            "Waiting for an input here would block the event loop that runs this. Use `async for`, or `await` what next() returns, in "
            "async code."
        )


def _is_async(around: RunContext) -> bool:
    function: Any = around.flow if isinstance(around, FlowRunContext) else around.task
    return bool(getattr(function, "is_async", False))
