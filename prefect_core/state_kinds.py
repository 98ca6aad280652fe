"""The kinds of state and which may follow which: one table, no code.

The four final kinds have no successor: an attempt that ended stays ended, and whoever retries or resumes a run opens a new attempt.

    SCHEDULED ─► PENDING ─► RUNNING ─► COMPLETED | FAILED | CRASHED | CANCELLED
        ▲                   │  ▲ │
        └── AwaitingRetry ──┘  │ └──► CANCELLING ─► CANCELLED
                    PAUSED ◄───┴── (and back)
"""

from __future__ import annotations

from enum import Enum


class StateType(str, Enum):
    """The kinds of state."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    CRASHED = "CRASHED"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"

    # Enum's own hash is a Python function; states are looked up on every transition.
    __hash__ = str.__hash__


SCHEDULED, PENDING, RUNNING = StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING
COMPLETED, FAILED, CANCELLED, CRASHED = StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED
PAUSED, CANCELLING = StateType.PAUSED, StateType.CANCELLING

FINAL: frozenset[StateType] = frozenset({COMPLETED, FAILED, CANCELLED, CRASHED})
UNSUCCESSFUL: frozenset[StateType] = FINAL - {COMPLETED}

_OPEN = frozenset(StateType)
TRANSITIONS: dict[StateType, frozenset[StateType]] = {
    SCHEDULED: _OPEN,
    PENDING: _OPEN,
    RUNNING: _OPEN - {PENDING},
    PAUSED: _OPEN - {PENDING},
    CANCELLING: frozenset({CANCELLED, CRASHED}),
    COMPLETED: frozenset(),
    FAILED: frozenset(),
    CANCELLED: frozenset(),
    CRASHED: frozenset(),
}
"""Kinds that may follow a kind within one attempt."""

DEFAULT_NAMES: dict[StateType, str] = {kind: kind.value.capitalize() for kind in StateType}
"""The name that a state has if it is given none: "Pending", "Running", ..."""
