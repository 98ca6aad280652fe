"""Inputs that were sent to flow runs under way, from wherever the history can be opened.

They are kept as long as their run. Who receives them remembers what it has had; nothing is taken out of the history by that, so that an
attempt that is lost loses no input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection

AT_ONCE = 100
"""How many inputs are read in one go."""


class SentInput(NamedTuple):
    """One input; moments are wall microseconds."""

    run: int
    channel: str
    """By which receivers choose."""
    key: str
    """By which they tell one input from another."""
    sender: str | None
    sent_us: int
    is_pickled: int
    """Whether the value is a pickle, and not JSON."""
    value: bytes
    number: int = 0
    """The order of arrival; given by the history."""


class SentInputs(Protocol):
    """The inputs in one history, from any thread. Every method may raise `HistoryError`."""

    def send_input(self, row: SentInput) -> bool:
        """Keep an input; it is durable when this returns. False, and it is not kept, if its run has ended or is not there."""
        ...

    def inputs(self, run: int, channels: Collection[str], after: int = 0) -> list[SentInput]:
        """Return the first inputs of a run in some channels that came after the one with a number, at most `AT_ONCE`."""
        ...

    def has_input(self, run: int, channels: Collection[str], after: int = 0) -> bool:
        """Tell whether there is such an input; cheap to ask often."""
        ...
