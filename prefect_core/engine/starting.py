"""Starting a flow run: here on this thread, here on this event loop, or beside the caller."""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable
from functools import partial

from prefect_core.context import FlowRunContext
from prefect_core.engine import drive, portal
from prefect_core.engine.dispatcher import Dispatcher
from prefect_core.engine.flow_call import FlowCall
from prefect_core.engine.flow_run import flow_life
from prefect_core.states import State
from prefect_core.thread_pool import ThreadPool

_MOST_AT_ONCE = 256
_threads = ThreadPool(_MOST_AT_ONCE, name="prefect-core-flows")


def _renew_threads() -> None:
    global _threads
    _threads = ThreadPool(_MOST_AT_ONCE, name="prefect-core-flows")


os.register_at_fork(after_in_child=_renew_threads)


def note_in_parent(call: FlowCall) -> None:
    """Count a subflow that was called directly among its parent's children."""
    if type(call.parent) is FlowRunContext and call.tracking is not None:
        call.parent.dispatcher.note(call.tracking)


def run_here(call: FlowCall) -> State:
    state = drive.run(flow_life(call))
    note_in_parent(call)
    return state


async def arun_here(call: FlowCall) -> State:
    state = await _arun_on_loop(call)
    note_in_parent(call)
    return state


async def _arun_on_loop(call: FlowCall) -> State:
    import anyio  # only async flows come here

    async with anyio.create_task_group() as group:
        call.host = portal.LoopHost(group)
        try:
            return await drive.arun(flow_life(call))
        finally:
            call.host.close()
    raise AssertionError("a task group swallows nothing but its own cancellation")


def start_beside(call: FlowCall, taker: Dispatcher, variables: contextvars.Context) -> None:
    """Let a submitted flow run, on a thread or on the loop of the flow around it."""
    call.taker = taker
    if call.flow.is_async:
        call.cancel = taker.spawn(_carry_out_async, call, taker)
    else:

        def carry_out() -> Callable[[], None]:
            return variables.run(_carry_out, call, taker)

        call.thread_slot = partial(_threads.abandon, carry_out)
        _threads.submit(carry_out)


def _carry_out(call: FlowCall, taker: Dispatcher) -> Callable[[], None]:
    try:
        drive.run(flow_life(call))
    except BaseException:
        taker.closed(call)
        raise
    return partial(taker.closed, call)


async def _carry_out_async(call: FlowCall, taker: Dispatcher) -> None:
    try:
        await _arun_on_loop(call)
    finally:
        taker.closed(call)
