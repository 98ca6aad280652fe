"""The gate of a flow run: closed while the run is paused, and no body in it begins then.

Whoever is about to begin a body says so first (`beginning`), and then looks at the gate; whoever closes it waits until nobody is about to
begin. So a body that saw the gate open has its Running recorded before the pause, and one that comes later sees it closed. While nobody
pauses that is one attribute read, and a list that grows by one for a moment.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from prefect_core.context import FlowRunContext, TaskRunContext
from prefect_core.waiting import Signal

if TYPE_CHECKING:
    from prefect_core.context import RunContext


class Gate(Signal):
    """Fires when it opens, or when it is known that it will not: `refusal` is then what ends those that wait at it."""

    __slots__ = ("is_awaited_by_body", "refusal")

    is_hurried = True

    def __init__(self) -> None:
        super().__init__()
        self.refusal: BaseException | None = None
        self.is_awaited_by_body = False
        """Whether the body itself stands there, and is told when the time is up."""


class Held(BaseException):
    """Ends an attempt whose body was not to begin: it is made again when the gate opens."""


_lock = threading.Lock()


def flow_around(around: RunContext | None) -> FlowRunContext | None:
    """Return the context of the flow that a context is in, or that it is."""
    return around.flow_context if isinstance(around, TaskRunContext) else around


def close(around: FlowRunContext, gate: Gate) -> None:
    """Put a gate before all bodies in a flow run; one that is closed there already stays, and this one comes behind it."""
    with _lock:
        before = around.gate
        if before is None or (before.done() and before.refusal is None):
            around.gate = gate


class about_to_begin:
    """Say that a body in a flow run is about to begin. Raises `Held` if the run is paused, or what its gate refuses bodies with."""

    __slots__ = ("_around",)

    def __init__(self, around: FlowRunContext | None) -> None:
        self._around = around

    def __enter__(self) -> None:
        around = self._around
        if around is None:
            return
        around.beginning.append(None)
        try:
            if around.gate is not None and closed_gate(around) is not None:
                raise Held
        except BaseException:
            around.beginning.pop()
            raise

    def __exit__(self, *_: object) -> None:
        if self._around is not None:
            self._around.beginning.pop()


def inherit(around: FlowRunContext) -> None:
    """Let a flow run be behind the gate of the one around it, if that is closed."""
    outer = flow_around(around.parent)
    if outer is not None and outer.gate is not None:
        close(around, outer.gate)


def closed_gate(around: FlowRunContext | None) -> Gate | None:
    """Return what keeps bodies in a flow run from beginning, if anything does. Raises what the gate refuses them with."""
    if around is None:
        return None
    while True:
        gate: Gate | None = around.gate
        if gate is None:
            return None
        if not gate.done():
            return gate
        if gate.refusal is not None:
            raise gate.refusal
        with _lock:
            if around.gate is gate:
                around.gate = _next_gate(around, gate)


def _next_gate(around: FlowRunContext, opened: Gate) -> Gate | None:
    """Return what is closed behind a gate that has opened: that of the run itself, or that of the run around it."""
    outer = flow_around(around.parent)
    behind: list[Gate | None] = [
        around.pausing.gate if around.pausing is not None else None,
        outer.gate if outer is not None else None,
    ]
    for gate in behind:
        if gate is not None and gate is not opened and (not gate.done() or gate.refusal is not None):
            return gate
    return None


def open_anew(around: FlowRunContext) -> None:
    """Let the next attempt of a flow run begin without the gate of the last one."""
    with _lock:
        around.gate = None
    inherit(around)
