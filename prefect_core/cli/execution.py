"""Runs a flow of any kind to its end, and tells how it ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from prefect_core.cli.commands import COMPLETED, FAILED, INTERRUPTED
from prefect_core.cli.watching import watched
from prefect_core.engine import signals
from prefect_core.errors import TerminationSignal
from prefect_core.flows import Flow
from prefect_core.runs import FlowRun, Run
from prefect_core.state_kinds import CRASHED, PAUSED
from prefect_core.states import State


class Ending(NamedTuple):
    """How a flow run ended."""

    state: State
    run_id: UUID | None

    @property
    def exit_code(self) -> int:
        """0 for a run that completed or is paused, 130 and 143 for one that a signal ended, else 1."""
        if self.state.is_completed() or self.state.type is PAUSED:
            return COMPLETED
        if self.state.type is CRASHED and isinstance(self.state.data, BaseException):
            cause = signals.cause_of(self.state.data)
            if isinstance(cause, KeyboardInterrupt):
                return INTERRUPTED
            if isinstance(cause, TerminationSignal):
                return 128 + cause.signal
        return FAILED


def carry_out(flow: Flow[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Ending:
    """Run a flow here, an async one on an event loop of its own. Raises what keeps a run from being made at all."""
    if flow.is_generator:
        return _consume(flow, args, kwargs)
    call = partial(flow, *args, **kwargs, return_state=True)
    if flow.is_async:
        import anyio  # only async flows need it

        state: State = anyio.run(call)
    else:
        state = call()
    return Ending(state, state.state_details.flow_run_id)


def _consume(flow: Flow[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Ending:
    """Run a generator flow by taking all that it yields; its run is known from what is recorded, since it returns no state."""
    roots: list[FlowRun] = []

    def note(run: Run, _state: State) -> None:
        if not roots and isinstance(run, FlowRun):
            roots.append(run)

    with watched(note):
        try:
            _exhaust(flow, args, kwargs)
        except BaseException:
            # What ended the run stands in its state.
            if not roots or not roots[0].state.is_final():
                raise
    return Ending(roots[0].state, roots[0].id)


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
