"""Values that stay with the engine of a task runner (a cluster's memory, an object store) and travel as its own futures or references.

The near end pickles arguments inside `packing`: each reference leaves a place in the pickle and its native object in a list, which the
runner hands to its engine beside the pickle. The far end loads it inside `unpacking`, with the values that the engine brought.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from prefect_core.errors import SerializationError, ValueLost
from prefect_core.stored import Stored


class Origin(Protocol):
    """How a value was made."""

    def make_again(self, reference: Reference) -> None:
        """Have a lost value made again, which `reference` refers to from then on; blocks. Raises what says why it can't be had."""
        ...


class Reference(Stored):
    """Where the value of an attempt lies, or will lie once the attempt has ended well.

    `native` is the engine's own future or reference. Attempts whose runner is `home` are handed that; all others the value. A runner
    marks a reference as `is_lost` when it learns that the value can't be had any more.
    """

    __slots__ = ("__weakref__", "_fetched", "home", "is_lost", "native", "origin")

    def __init__(self, home: object, native: Any) -> None:
        self.home = home
        self.native = native
        self.is_lost = False
        self.origin: Origin | None = None
        """For the engine; None for a value that can't be made again."""
        self._fetched: tuple[Any, ...] = ()

    @abstractmethod
    def fetch(self) -> Any:
        """Bring the value here, blocking. Raises `ValueLost` if it is gone, or what else says why it can't be had."""

    def load(self) -> Any:
        """Return the value, fetched the first time that somebody asks for it; one that was lost is made again."""
        while not self._fetched:
            try:
                self._fetched = (self.fetch(),)
            except ValueLost:
                self.is_lost = True
                if self.origin is None:
                    raise
                self.origin.make_again(self)
        return self._fetched[0]

    def become(self, made: Any) -> None:
        """Refer to a value that was made again: to what another reference refers to, or to the value itself, which is here then."""
        if isinstance(made, Reference):
            for kind in type(self).__mro__:
                for name in set(kind.__dict__.get("__slots__", ())) - {"__weakref__", "origin"}:
                    if hasattr(made, name):
                        setattr(self, name, getattr(made, name))
        else:
            self.home, self._fetched, self.is_lost = None, (made,), False

    def __reduce__(self) -> tuple[Any, ...]:
        if self.home is None or _here.home is not self.home:
            return _itself, (self.load(),)
        return place_of(self.native, self)


class Packed:
    """What stands beside a pickle: the native objects by their places in it, and the references that these are of, if they are of any."""

    def __init__(self) -> None:
        self.natives: list[Any] = []
        self.references: list[Reference | None] = []

    def add(self, native: Any, reference: Reference | None) -> int:
        """Return the place of a native object."""
        self.natives.append(native)
        self.references.append(reference)
        return len(self.natives) - 1


class _Here(threading.local):
    home: object = None
    packed: Packed
    values: Sequence[Any] = ()


_here = _Here()


@contextmanager
def packing(home: object) -> Iterator[Packed]:
    """Give what the natives of `home` go into that are pickled on this thread in the block."""
    before = _here.home
    _here.home, _here.packed = home, Packed()
    try:
        yield _here.packed
    finally:
        _here.home = before


def place_of(native: Any, reference: Reference | None = None) -> tuple[Any, ...]:
    """Return what stands in a pickle for a native object, as `__reduce__` does: for runners, whose engines have objects of their own.

    Raises `SerializationError` where no runner packs that can hand on what its engine has.
    """
    check_home(native)
    return _value_at, (_here.packed.add(native, reference),)


def check_home(native: Any, homes: type = object) -> None:
    """Raise `SerializationError` unless a runner of the class `homes` packs on this thread, which can hand the native object on."""
    if _here.home is None or not isinstance(_here.home, homes):
        raise SerializationError(
            f"A {type(native).__module__}.{type(native).__qualname__} lies on a cluster and can't leave it like this. Pass it to tasks on "
            "that cluster's own runner, or pass its value."
        )


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
