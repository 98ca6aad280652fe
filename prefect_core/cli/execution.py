"""Runs a flow of any kind to its end, and tells how it ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any

from prefect_core.cli.commands import COMPLETED, FAILED, INTERRUPTED
from prefect_core.cli.watching import first_flow_run
from prefect_core.engine import signals
from prefect_core.errors import TerminationSignal
from prefect_core.flows import Flow
from prefect_core.runs import FlowRun


def exit_code_of(run: FlowRun) -> int:
    """Return 0 for a run that completed or is paused, 130 and 143 for one that a signal ended, else 1."""
    state = run.state
    if state.is_completed() or state.is_paused():
        return COMPLETED
    if state.is_crashed() and isinstance(state.data, BaseException):
        cause = signals.cause_of(state.data)
        if isinstance(cause, KeyboardInterrupt):
            return INTERRUPTED
        if isinstance(cause, TerminationSignal):
            return 128 + cause.signal
    return FAILED


def carry_out(flow: Flow[..., Any], args: list[Any], kwargs: dict[str, Any]) -> FlowRun:
    """Run a flow here to its end and return its run; an async one on an event loop of its own, of a generator taking all that it yields.

    Raises what keeps a run from being made, or from being brought to an end.
    """
    with first_flow_run() as found:
        try:
            _call(flow, args, kwargs)
        except BaseException:
            # What ended the run stands in its state.
            if not found or not found[0].state.is_final():
                raise
    return found[0]


def _call(flow: Flow[..., Any], args: list[Any], kwargs: dict[str, Any]) -> None:
    if flow.is_generator:
        _exhaust(flow, args, kwargs)
    elif flow.is_async:
        import anyio  # only async flows need it

        anyio.run(partial(flow, *args, **kwargs, return_state=True))
    else:
        flow(*args, **kwargs, return_state=True)


def _exhaust(flow: Flow[..., Any], args: list[Any], kwargs: dict[str, Any]) -> None:
    if not flow.is_async:
        for _ in flow(*args, **kwargs):
            pass
        return
    import anyio  # only async flows need it

    async def consume() -> None:
        async for _ in flow(*args, **kwargs):
            pass

    anyio.run(consume)


@contextmanager
def stdout_as_stderr() -> Iterator[None]:
    """Send what the block prints to standard error, also from other processes, so that standard output is left for data."""
    try:
        out, err = sys.stdout.fileno(), sys.stderr.fileno()
    except (OSError, ValueError):
        # Standard output is no file, so only this process knows it.
        with redirect_stdout(sys.stderr):
            yield
        return
    sys.stdout.flush()
    kept = os.dup(out)
    os.dup2(err, out)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, out)
        os.close(kept)
