"""Values that stay with the engine of a task runner (a cluster's memory, an object store) and travel as its own futures or references.

The near end pickles arguments inside `packing`: each reference leaves a place in the pickle and its native object in a list, which the
runner hands to its engine beside the pickle. The far end loads it inside `unpacking`, with the values that the engine brought.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prefect_core.errors import SerializationError
from prefect_core.stored import Stored


class Reference(Stored):
    """Where the value of an attempt lies, or will lie once the attempt has ended well.

    `native` is the engine's own future or reference. Attempts whose runner is `home` are handed that; all others the value.
    """

    __slots__ = ("_fetched", "home", "native")

    def __init__(self, home: object, native: Any) -> None:
        self.home = home
        self.native = native
        self._fetched: tuple[Any, ...] = ()

    @abstractmethod
    def fetch(self) -> Any:
        """Bring the value here, blocking; raises what says why it can't be had."""

    def load(self) -> Any:
        """Return the value, fetched the first time that somebody asks for it."""
        if not self._fetched:
            self._fetched = (self.fetch(),)
        return self._fetched[0]

    def __reduce__(self) -> tuple[Any, ...]:
        if _here.home is not self.home:
            return _itself, (self.load(),)
        return place_of(self.native)


class _Here(threading.local):
    home: object = None
    natives: list[Any]
    values: Sequence[Any] = ()


_here = _Here()


@contextmanager
def packing(home: object) -> Iterator[list[Any]]:
    """Give the list into which the natives of `home` go that are pickled on this thread in the block."""
    before = _here.home
    _here.home, _here.natives = home, []
    try:
        yield _here.natives
    finally:
        _here.home = before


def place_of(native: Any) -> tuple[Any, ...]:
    """Return what stands in a pickle for a native object, as `__reduce__` does: for runners, whose engines have objects of their own.

    Raises `SerializationError` where no runner of that engine packs.
    """
    if _here.home is None:
        raise SerializationError(
            f"A {type(native).__module__}.{type(native).__qualname__} lies on a cluster and can't leave it like this. Pass it to tasks on "
            "that cluster's own runner, or pass its value."
        )
    _here.natives.append(native)
    return _value_at, (len(_here.natives) - 1,)


@contextmanager
def unpacking(values: Sequence[Any]) -> Iterator[None]:
    """Let what is unpickled on this thread in the block find the values of its places."""
    before, _here.values = _here.values, values
    try:
        yield
    finally:
        _here.values = before


def _value_at(place: int) -> Any:
    return _here.values[place]


def _itself(value: Any) -> Any:
    return value
