"""Bodies on threads that outlive their timeout: told of when it happens, when such a body ends at last, and when its flow run ends before.

Nothing can end such a body, so what is left is that nobody has to wonder why the process is busy.
"""

from __future__ import annotations

import os
import time
from functools import partial

from prefect_core import history, logs
from prefect_core.context import FlowRunContext, RunContext
from prefect_core.payload import Payload

_MOST_NAMES = 10
_running: dict[Payload, None] = {}


def look_at(payload: Payload) -> None:
    """Warn in its run's log of a body that goes on behind its deadline; until `payload.over` it counts as running."""
    over = payload.over
    assert payload.timeout_seconds is not None
    if over is None or over.done():
        return
    logs.note(
        payload.context,
        logs.WARNING,
        f"The body did not end at its timeout of {payload.timeout_seconds:g} second(s) and goes on in a thread, which can't be stopped. "
        f"What it returns is dropped, and a retry waits for its end. {_cure(payload.context)}",
    )
    if _is_at_home(payload.context):
        _running[payload] = None
        begun = time.monotonic() - payload.timeout_seconds
        over.add_done_callback(partial(_ended, payload, begun, history.opened()))


def _cure(context: RunContext) -> str:
    if isinstance(context, FlowRunContext):
        return "The next task or flow that it calls ends it."
    return 'With @task(isolation="process") it runs in a process of its own, which can be.'


def _is_at_home(context: RunContext) -> bool:
    """Tell whether the history is here, so that there will be a log when the body ends."""
    dispatcher = context.dispatcher
    return dispatcher is None or bool(dispatcher.keeps_results)


def _ended(payload: Payload, begun: float, recorder: history.Recorder | None, _: object) -> None:
    _running.pop(payload, None)
    if history.opened() is not recorder:
        # The program is about to end, or its history was exchanged: none is opened for this.
        return
    logs.note(
        payload.context,
        # Kept, as what it answers.
        logs.WARNING,
        f"The body that went on behind its timeout of {payload.timeout_seconds:g} second(s) has ended, after "
        f"{time.monotonic() - begun:.3g} second(s).",
    )


def report(context: FlowRunContext) -> None:
    """Warn, when all else in a flow run is over, of the bodies in it that still run."""
    names = [repr(one.run.name) for one in list(_running) if _is_of_task_in(one.context, context)]
    if names:
        further = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        logs.note(
            context,
            logs.WARNING,
            f"The flow run ends while the bodies of {len(names)} task run(s) in it, which timed out, go on in threads: "
            f"{', '.join(names[:_MOST_NAMES])}{further}. They end with this process at the latest.",
        )


def _is_of_task_in(context: RunContext, flow_context: FlowRunContext) -> bool:
    return not isinstance(context, FlowRunContext) and context.flow_context is flow_context


os.register_at_fork(after_in_child=_running.clear)
