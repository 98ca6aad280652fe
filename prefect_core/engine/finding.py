"""Finding the call that somebody asks about, among those that are under way in this process, by the key of its run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect_core.engine.flow_call import FlowCall
from prefect_core.engine.task_call import TaskCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect_core.engine.dispatcher import Dispatcher

_BEGINNING_SECONDS = 0.2
_PAUSE_SECONDS = 0.001


class Found(NamedTuple):
    """A call that is under way."""

    call: Any
    """A `FlowCall` or `TaskCall`."""
    taker: Dispatcher | None
    """What it was submitted to."""


def find_soon(find: Callable[[], Found | None]) -> Found | None:
    """Find a call; one that was made just now is recorded a moment before it is under way."""
    until = time.monotonic() + _BEGINNING_SECONDS
    while True:
        found = find()
        if found is not None or time.monotonic() >= until:
            return found
        time.sleep(_PAUSE_SECONDS)


def find(call: FlowCall, key: int, taker: Dispatcher | None = None) -> Found | None:
    """Find a call among a flow call and what is in it; a task run that stands for a subflow run is that."""
    if call.run.key == key or (call.tracking is not None and call.tracking.key == key):
        return Found(call, taker or call.taker)
    return find_among(call.dispatcher, key) if call.dispatcher is not None else None


def find_among(dispatcher: Dispatcher, key: int) -> Found | None:
    """Find a call among those of a dispatcher and what is in them."""
    for inner in dispatcher.calls():
        if isinstance(inner, FlowCall):
            found = find(inner, key, dispatcher)
            if found is not None:
                return found
        elif isinstance(inner, TaskCall) and inner.run.key == key:
            return Found(inner, dispatcher)
    return None
