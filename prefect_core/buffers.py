"""Bytes on their way between serializers and storage: pieces to write, and streams to read from."""

from __future__ import annotations

from typing import Protocol

Buffer = bytes | bytearray | memoryview
"""One piece of what is written. Of a large value it is a view of the value's own memory, not a copy."""


class Source(Protocol):
    """A binary stream to read from: an open file, `io.BytesIO`, what `Storage.open` returns, a `CheckedReader`."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, b"" at the end; all that is left if `size` is negative."""
        ...

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        """Fill the buffer from its beginning and return how many bytes that took; 0 at the end."""
        ...

    def close(self) -> None:
        """Let go of the file or connection."""
        ...


def fill(source: Source, target: memoryview) -> int:
    """Read until the target is full or the source has ended, and return how many bytes there were."""
    filled = 0
    while filled < len(target):
        count = source.readinto(target[filled:])
        if not count:
            break
        filled += count
    return filled
