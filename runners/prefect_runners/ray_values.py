"""Values as Ray keeps them for those who depend on them: bytes for small ones, `Kept` for large ones."""

from __future__ import annotations

import pickle
import time
from io import BytesIO
from typing import Any

from prefect_core import pickling


class Kept:
    """A large value: its pickle, its buffers beside it, and what tells this making of it from any other.

    Ray sees bytes and buffers only, so the rules for what can be pickled are ours, and no code of the user's runs inside Ray. The buffers
    lie in Ray's object store as they are, and who reads them on the same machine copies nothing.
    """

    __slots__ = ("buffers", "dumped", "making")

    def __init__(self, dumped: Any, buffers: list[Any], making: tuple[int, int]) -> None:
        self.dumped = dumped
        self.buffers = buffers
        self.making = making

    @classmethod
    def of(cls, number: int, value: Any) -> Kept:
        """Keep a value of the attempt of this number. Raises what pickling raises."""
        buffers: list[pickle.PickleBuffer] = []
        with BytesIO() as stream:
            pickling.Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(value)
            return cls(stream.getvalue(), buffers, (number, time.time_ns()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, (pickle.PickleBuffer(self.dumped), self.buffers, self.making)

    def load(self) -> Any:
        """Return the value; arrays in it are views of Ray's memory, and read-only. Raises what unpickling raises."""
        return pickle.loads(self.dumped, buffers=self.buffers)


def value_in(made: Any) -> Any:
    """Return the value that is kept in `made`. Raises what unpickling raises."""
    return made.load() if isinstance(made, Kept) else pickle.loads(made)
