"""What a transaction can be in, and when it commits."""

from __future__ import annotations

from enum import Enum


class TransactionState(Enum):
    """Where a transaction stands."""

    PENDING = "PENDING"
    """Not begun."""
    ACTIVE = "ACTIVE"
    STAGED = "STAGED"
    """It has a value to be kept."""
    COMMITTED = "COMMITTED"
    ROLLED_BACK = "ROLLED_BACK"


class CommitMode(Enum):
    """When a transaction commits by itself."""

    LAZY = "LAZY"
    """At the end of the outermost transaction around it."""
    EAGER = "EAGER"
    """At its own end."""
    OFF = "OFF"
    """Never: an outermost one that nobody has committed is rolled back at its end."""


ENDED = frozenset({TransactionState.COMMITTED, TransactionState.ROLLED_BACK})
