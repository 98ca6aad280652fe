"""Pieces on their way into a storage: cut and joined to handy sizes, and counted and hashed on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256

from prefect_core.buffers import Buffer
from prefect_core.storage.interface import Written

CHUNK = 1 << 20
"""So large that calls don't count, and so small that what was just hashed is still in the processor's cache when it is written."""

_SMALL = 1 << 15


def write_chunks(pieces: list[Buffer], write: Callable[[Buffer], object]) -> Written:
    """Give all that is in the pieces to `write`, in chunks, and return its size and checksum."""
    digest, size = sha256(), 0
    for chunk in _chunks(pieces):
        digest.update(chunk)
        write(chunk)
        size += len(chunk)
    return Written(size, digest.digest())


def _chunks(pieces: list[Buffer]) -> Iterator[Buffer]:
    joined = bytearray()
    for piece in pieces:
        view = memoryview(piece).cast("B")
        if len(view) <= _SMALL:
            joined += view
            if len(joined) < CHUNK:
                continue
            view = memoryview(b"")
        if joined:
            yield joined
            joined = bytearray()
        for start in range(0, len(view), CHUNK):
            yield view[start : start + CHUNK]
    if joined:
        yield joined
