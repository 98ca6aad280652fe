"""Sources and values that misbehave in one way each."""

from __future__ import annotations

from io import BytesIO
from typing import Any


class Trickling(BytesIO):
    """Gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self._step = step

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(self._step), b""))
        return super().read(min(size, self._step))

    def readinto(self, buffer: Any, /) -> int:
        return super().readinto(memoryview(buffer)[: self._step])


class Failing(BytesIO):
    """Raises when its end is reached, as a checksum would that is wrong."""

    def _check(self) -> None:
        if self.tell() == len(self.getbuffer()):
            raise OSError("the end was reached")

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._check()
        return data

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer)
        self._check()
        return count


class Tripwire:
    """Counts how often it was loaded."""

    loaded = 0

    def __reduce__(self) -> Any:
        return load_tripwire, ()


def load_tripwire() -> Tripwire:
    Tripwire.loaded += 1
    return Tripwire()
