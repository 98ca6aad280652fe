"""Reading objects with their checksum taken on the way: what was not written is never taken for what was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from typing import Any, TypeVar

from prefect_core.buffers import Source
from prefect_core.errors import ObjectDamaged, shown
from prefect_core.storage.chunks import CHUNK
from prefect_core.storage.interface import Storage, Written
from prefect_core.storage.persistence import persistently

V = TypeVar("V")


class CheckedReader:
    """A stream whose bytes are hashed as they are read.

    With `expected`, it raises `ObjectDamaged` in the very call that reads the last byte, or too few: a loader that reads to the end before
    it interprets anything, as all of ours do, never sees damaged bytes whole. Without, `verify` is to be called in the end.
    """

    def __init__(self, stream: Source, expected: Written | None = None, name: str = "The stored object") -> None:
        self.failure: BaseException | None = None
        """What the stream raised, if it did."""
        self._stream = stream
        self._expected = expected
        self._name = name
        self._digest = sha256()
        self._position = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return so many bytes, fewer only at the end; all that is left if `size` is negative."""
        if size < 0 or (self._expected is not None and size > self._expected.size - self._position):
            # A damaged length must not make us ask for more memory than there are bytes.
            size = -1 if self._expected is None else max(0, self._expected.size - self._position)
        data: bytes = self._ask(self._stream.read, size)
        while 0 < len(data) < size and (more := self._ask(self._stream.read, size - len(data))):
            data += more
        self._took(data, is_last=size < 0 or len(data) < size)
        return data

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        """Fill the buffer, and return how many bytes that took: fewer than it has room for only at the end."""
        view, filled = memoryview(buffer).cast("B"), 0
        while filled < len(view):
            count = self._ask(self._stream.readinto, view[filled : filled + CHUNK])
            self._took(view[filled : filled + count], is_last=not count)
            if not count:
                break
            filled += count
        return filled

    def _ask(self, call: Callable[[Any], Any], argument: Any) -> Any:
        try:
            return call(argument)
        except BaseException as failure:
            self.failure = failure
            raise

    def _took(self, data: bytes | memoryview, *, is_last: bool) -> None:
        self._digest.update(data)
        self._position += len(data)
        if self._expected is not None and (is_last or self._position >= self._expected.size):
            self.verify(*self._expected)

    def verify(self, size: int, sha256: bytes) -> None:
        """Raise `ObjectDamaged` unless the stream, of which the rest is read now, had exactly these bytes."""
        while rest := self._ask(self._stream.read, CHUNK):
            self._digest.update(rest)
            self._position += len(rest)
        if self._position != size:
            raise ObjectDamaged(f"{self._name} is damaged: {size} bytes were written, and {self._position} are there.")
        if self._digest.digest() != sha256:
            raise ObjectDamaged(
                f"{self._name} is damaged: its {size} bytes are not those that were written (SHA-256 {self._digest.hexdigest()[:12]}... "
                f"instead of {sha256.hex()[:12]}...)."
            )

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


def read_checked(storage: Storage, key: str, written: Written, load: Callable[[Source], V]) -> V:
    """Return what `load` makes of the object, if it has the bytes that were written.

    Raises `ObjectMissing`, `ObjectDamaged`, `StorageError` once reading has failed for `storage_retry_seconds`, or what `load` raises for
    bytes that are the right ones.
    """
    name = f"The object {shown(key, 100)} in {storage.url}"

    def once() -> tuple[V, None] | tuple[None, Exception]:
        with closing(storage.open(key)) as stream:
            reader = CheckedReader(stream, written, name)
            try:
                value = load(reader)
            except ObjectDamaged:
                raise
            except Exception as error:
                if reader.failure is not None:
                    raise reader.failure from None
                # Was it the bytes? A damaged object may fail to load before its end is reached.
                reader.verify(*written)
                return None, error
            reader.verify(*written)
            return value, None

    value, error = persistently(storage.url, f"read {shown(key, 100)}", once)
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # with no error there is a value
