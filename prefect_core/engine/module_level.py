"""Calls of flows at the module level of a file that is just loaded for one of its flows.

A script that ends in `main_flow()` runs it when it is executed. Loaded by its entry point, it would run the flow once while it is loaded,
and again because it was asked for. So these calls do nothing but warn. A call belongs to the module level if it is made on the loading
thread, in the run (most often none) that the load began in: the body of a task that the module level calls may call flows as ever.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from prefect_core import context, logs, script_files
from prefect_core.context import RunContext


def is_ignored(flow: Any, parent: RunContext | None) -> bool:
    """Tell whether a call of a flow, made inside `parent`, stands at the module level of a file that is being loaded; if so, warn."""
    variables = script_files.around_load()
    if variables is None or context.current_in(variables) is not parent:
        return False
    logs.engine_line(
        None,
        logs.WARNING,
        f"Script loading is in progress, flow {flow.name!r} will not be executed. Consider updating the script to only call the flow if "
        'executed directly: put the call below a line `if __name__ == "__main__":`, which holds in `python script.py` only.',
    )
    return True


def nothing_from(flow: Any) -> Any:
    """Return what an ignored call gives, of the kind that the caller expects: None, a coroutine of it, or a generator of nothing."""
    if flow.is_generator:
        return _no_values() if flow.is_async else iter(())
    return _none() if flow.is_async else None


async def _none() -> None:
    pass


async def _no_values() -> AsyncGenerator[None, None]:
    for _ in range(0):
        yield
