"""What every storage can do, and what may be given as one. Loads little: every decorator looks at it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from prefect_core.buffers import Buffer, Source
from prefect_core.errors import shown


class Written(NamedTuple):
    """What was written: the number of bytes, and their SHA-256."""

    size: int
    sha256: bytes


class StoredObject(NamedTuple):
    """An object as a listing shows it; `modified_us` is in wall microseconds, 0 where the storage does not tell."""

    key: str
    size: int
    modified_us: int


@runtime_checkable
class Storage(Protocol):
    """Objects by key, from any thread. Every method may raise `StorageError`, and `ValueError` for a key that `check_key` refuses.

    What fails for a passing reason is tried again for `storage_retry_seconds` before it raises.
    """

    url: str
    """What the history keeps, and `resolve_storage` takes."""

    def write(self, key: str, pieces: Iterable[Buffer]) -> Written:
        """Keep the pieces, one after the other, as the object of that key, in place of an earlier one.

        It is durable when this returns. Whatever happens meanwhile, the key has the earlier object whole, the new one whole, or none.
        """
        ...

    def open(self, key: str) -> Source:
        """Return a stream that stands at the object's first byte; whoever gets it closes it. Raises `ObjectMissing`."""
        ...

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, None if there is none."""
        ...

    def delete(self, key: str) -> bool:
        """Remove the object; return whether there was one."""
        ...

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose keys begin with `prefix`, in no particular order."""
        ...

    def clear_leftovers(self, before_us: int) -> int:
        """Remove what writers that were killed have left behind before that moment, none of which is an object; return how many."""
        ...


StorageSpec = Storage | Path | str
"""What `result_storage=` takes: a folder, a URL, or an object with the methods of `Storage`."""


def check_storage(spec: Any) -> Any:
    """Return what was given as `result_storage`, which may be None. Raises `TypeError` for what can't be one; a URL is looked at later."""
    if spec is None or isinstance(spec, Path | Storage) or (isinstance(spec, str) and spec):
        return spec
    raise TypeError(f"Expected a folder, a URL or a storage for 'result_storage'; got {shown(spec, 200)}.")
