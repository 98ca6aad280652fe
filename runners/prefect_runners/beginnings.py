"""Which attempts have begun in a process, written where it outlives the process: after a kill nobody else could tell.

The file is a ring of digests of the attempts' keys, the last 65,536 of them: far more than can begin before the near end has heard of one.
What is written lies with the kernel, so it survives the process, though not the machine.
"""

from __future__ import annotations

import hashlib
import itertools
import mmap
import os
from collections.abc import Collection
from pathlib import Path

_PLACES = 1 << 16
_DIGEST_BYTES = 8


class Beginnings:
    """The file of this process, at `path`. Raises `OSError` if that can't be made, or has no room."""

    def __init__(self, path: Path) -> None:
        size = _PLACES * _DIGEST_BYTES
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # All of it now: a full disk could not be told of when something is noted.
            os.posix_fallocate(file, 0, size)
            self._written = mmap.mmap(file, size)
        finally:
            os.close(file)
        self._count = itertools.count()

    def note(self, key: str) -> None:
        """Write down that the attempt of this key begins; from any thread."""
        start = next(self._count) % _PLACES * _DIGEST_BYTES
        # Into the kernel's memory, at no call of it.
        self._written[start : start + _DIGEST_BYTES] = _digest(key)


def begun_among(path: Path, keys: Collection[str]) -> list[str] | None:
    """Return those of `keys` that have begun, by the file at `path`; None if that is not known. Raises `FileNotFoundError`."""
    written = path.read_bytes()
    if len(written) != _PLACES * _DIGEST_BYTES:
        return None
    return [key for key in keys if _has(written, _digest(key))]


def _has(written: bytes, digest: bytes) -> bool:
    start = written.find(digest)
    while start % _DIGEST_BYTES and start > 0:
        # Two halves of others that happen to look like it.
        start = written.find(digest, start + 1)
    return start >= 0


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=_DIGEST_BYTES).digest()
