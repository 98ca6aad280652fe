"""What an execution leaves with Ray: its reply, and its value for those who depend on it.

An execution with two returns leaves its reply, which is small, and its value: pickled, empty where there is none, or `Kept` if it is large.
One with a single return leaves its reply, which holds a small value; Ray is spared the second object, a tenth of what a small task costs.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from prefect_core import pickling
from prefect_core.engine.in_place import value_in_reply

ENDED, ENDED_WITH_MORE = b"E", b"N"
"""How a reply begins: with that of `in_place`, or with how much was told before, what could not be, and the making of a large value too."""


class Kept:
    """A large value: its pickle, its buffers beside it, and what tells this making of it from any other.

    Ray sees bytes and buffers only, so the rules for what can be pickled are ours, and no code of the user's runs inside Ray. The buffers
    lie in Ray's object store as they are, and who reads them on the same machine copies nothing.
    """

    __slots__ = ("buffers", "dumped", "making", "reply")

    def __init__(self, dumped: Any, buffers: list[Any], making: tuple[int, int], reply: bytes = b"") -> None:
        self.dumped = dumped
        self.buffers = buffers
        self.making = making
        self.reply = reply
        """That of a single return, which turned out to be large."""

    @classmethod
    def of(cls, number: int, value: Any) -> Kept:
        """Keep a value of the attempt of this number. Raises what pickling raises."""
        buffers: list[pickle.PickleBuffer] = []
        with BytesIO() as stream:
            pickling.Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(value)
            return cls(stream.getvalue(), buffers, (number, time.time_ns()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, (pickle.PickleBuffer(self.dumped), self.buffers, self.making, self.reply)

    def load(self) -> Any:
        """Return the value; arrays in it are views of Ray's memory, and read-only. Raises what unpickling raises."""
        return pickle.loads(self.dumped, buffers=self.buffers)


class ChunkWithValues:
    """What an execution of many attempts leaves if some of their values are large: its reply, and those by their places.

    Each is an object of its own in Ray, given with its making. It is owned by the worker that made it, and lost with that.
    """

    __slots__ = ("reply", "values")

    def __init__(self, reply: bytes, values: dict[int, tuple[Any, tuple[int, int]]]) -> None:
        self.reply = reply
        self.values = values

    def __reduce__(self) -> tuple[Any, ...]:
        return ChunkWithValues, (self.reply, self.values)


class Inputs(Sequence[Any]):
    """What the references in a parcel stand for, loaded when it is asked for, so that what fails is told with the parcel.

    `foreign` are the places of objects that no attempt of ours left.
    """

    def __init__(self, natives: tuple[Any, ...], foreign: frozenset[int]) -> None:
        self._natives = natives
        self._foreign = foreign
        self._values: dict[int, Any] = {}
        """Those that were seen while it was found out whether they are made."""

    def are_made(self) -> bool:
        """Tell whether all attempts that left these ended well. Raises what unpickling raises."""
        return all(
            place in self._foreign or type(native) is not bytes or self._is_made(place, native)
            for place, native in enumerate(self._natives)
        )

    def _is_made(self, place: int, native: bytes) -> bool:
        reply = _reply_in(native)
        if reply is None:
            return bool(native)
        is_made, self._values[place] = value_in_reply(reply)
        return is_made

    def __len__(self) -> int:
        return len(self._natives)

    def __getitem__(self, place: Any) -> Any:
        if place in self._values:
            return self._values[place]
        native = self._natives[place]
        return native if place in self._foreign else value_in(native)


def value_in(native: Any) -> Any:
    """Return the value in what an execution that ended well has left. Raises what unpickling raises."""
    if isinstance(native, Kept):
        return native.load()
    reply = _reply_in(native)
    return pickle.loads(native) if reply is None else value_in_reply(reply)[1]


def _reply_in(native: bytes) -> bytes | None:
    """Return the reply of a single return; None for a pickled value, which begins with another byte."""
    kind = native[:1]
    if kind == ENDED_WITH_MORE:
        reply: bytes = pickle.loads(native[1:])[2]
        return reply
    return native[1:] if kind == ENDED else None
