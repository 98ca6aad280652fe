"""What a state may hold in place of a value: something that is kept elsewhere and can be loaded, whoever keeps it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol


class Stored(ABC):
    """A value kept elsewhere. A base class, not a protocol: a user's value may have a `load` of its own."""

    __slots__ = ()

    @abstractmethod
    def load(self) -> Any:
        """Fetch the value; raises what says why it can't be had."""


def loaded(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values, with those fetched that are kept elsewhere."""
    return {name: value.load() if isinstance(value, Stored) else value for name, value in values.items()}


class Kept(Protocol):
    """What a completed run's value was kept as. `result` is the number that tells this making of the value from every other."""

    result: int
    inputs: tuple[int, ...]
    """The makings of the inputs that it was computed from."""

    def rows(self, run_key: int, attempt: int) -> list[tuple[str, tuple[Any, ...]]]:
        """Return what the history is to hold of it, for this run: tables of `history.batch.OF_RESULTS`, with a row each."""
        ...
