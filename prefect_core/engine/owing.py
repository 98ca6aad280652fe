"""What others are told of the end of a flow run, and claiming its hooks before the first is called, so that nobody calls them again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from prefect_core import clock, history, logs
from prefect_core.crash_points import crash_points_around
from prefect_core.engine.steps import Block, Life
from prefect_core.errors import HistoryError, LeaseLost
from prefect_core.history.owed import OWED_KINDS
from prefect_core.history.process import this_user

if TYPE_CHECKING:
    from prefect_core.flows import Flow
    from prefect_core.runs import AtEnd, FlowRun
    from prefect_core.states import State


def at_end(flow: Flow[Any, Any], is_new: bool) -> AtEnd | None:
    """Return what is recorded with a run of a flow so that others can do it where its process can't; None where nothing need be said."""
    hooks = flow.hooks
    if not (hooks["on_failure"] or hooks["on_crashed"] or hooks["on_cancellation"]):
        # Of a run that had an attempt before, something else may have been said.
        return None if is_new and flow.on_crash is None else ("", flow.on_crash)
    return " ".join(kind.value for kind in OWED_KINDS if flow.hooks_for(kind)), flow.on_crash


def are_claimed(run: FlowRun, state: State, is_durable: bool) -> Life[bool]:
    """Tell whether the hooks of a state are this process's to call, and make that durable if others may call them where it is lost.

    `is_durable` says whether the state is. One that is, with hooks that can't be claimed, leaves them to others.
    """
    if run.at_end is None or state.type.value not in run.at_end[0] or not run.key:
        # A run without a key is one in a worker, which has no history; what that calls is not owed.
        return True
    claimed: bool = yield Block(partial(_claim, run, state.timestamp_us, is_durable))
    return claimed


@crash_points_around("engine.claim")
def _claim(run: FlowRun, at_us: int, is_durable: bool) -> bool:
    recorder = history.current()
    recorder.noted([("called", (run.key, at_us, this_user(), clock.now_us()))])
    try:
        recorder.flush()
    except LeaseLost:
        # Whoever declared this process dead has them called.
        return False
    except HistoryError as error:
        if is_durable:
            logs.engine_line(
                run, logs.WARNING, f"Hooks are left to `prefect-core recover`, since they can't be claimed: {error}"
            )
        # Of a state that could not be written, nobody else learns.
        return not is_durable
    return True
