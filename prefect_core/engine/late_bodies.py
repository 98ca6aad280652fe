"""Bodies on threads that outlive their timeout: told of when it happens, when such a body ends at last, and when its flow run ends before.

Nothing can end such a body, so what is left is that nobody has to wonder why the process is busy.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

from prefect_core import logs
from prefect_core.context import FlowRunContext, RunContext
from prefect_core.payload import Payload

_running: dict[Payload, None] = {}


def outlives(payload: Payload) -> None:
    """Warn in the run's log that its body goes on behind its deadline; from then on it counts as running until `payload.over`."""
    over, context = payload.over, payload.context
    assert over is not None
    begun = time.monotonic() - (payload.timeout_seconds or 0.0)
    _running[payload] = None
    cure = (
        "a call of a task or a flow ends it"
        if isinstance(context, FlowRunContext)
        else 'with @task(isolation="process") it runs in a process that can'
    )
    logs.note(
        context,
        logs.WARNING,
        f"The body did not end at its timeout of {payload.timeout_seconds:g} second(s) and goes on in a thread, which can't be stopped: "
        f"{cure}. What it returns is dropped, and a retry waits for its end.",
    )
    over.add_done_callback(partial(_ended, payload, begun))


def _ended(payload: Payload, begun: float, _: object) -> None:
    del _running[payload]
    seconds = time.monotonic() - begun
    logs.note(
        payload.context,
        logs.INFO,
        f"The body that went on behind its timeout of {payload.timeout_seconds:g} second(s) has ended, after {seconds:.3g} second(s).",
    )


def report(context: FlowRunContext) -> None:
    """Warn, when a flow run's children are all over, of the bodies among them that still run."""
    if not _running:
        return
    names = [repr(payload.run.name) for payload in list(_running) if _is_inside(payload.context, context)]
    if names:
        first = ", ".join(names[:_MOST_NAMES]) + (f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else "")
        logs.note(
            context,
            logs.WARNING,
            f"{len(names)} bodies of task runs that timed out still run in threads of this process: {first}."
            if len(names) > 1
            else f"The body of a task run that timed out still runs in a thread of this process: {first}.",
        )


_MOST_NAMES = 10


def _is_inside(context: RunContext, flow_context: FlowRunContext) -> bool:
    return not isinstance(context, FlowRunContext) and context.flow_context is flow_context


os.register_at_fork(after_in_child=_running.clear)
