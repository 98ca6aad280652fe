"""The memory of this process as a storage, for tests and for results that need not outlive it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO

from prefect_core import clock
from prefect_core.buffers import Buffer, Source
from prefect_core.errors import ObjectMissing, shown
from prefect_core.storage.chunks import write_chunks
from prefect_core.storage.interface import StoredObject, Written
from prefect_core.storage.keys import check_key

_objects: dict[str, tuple[bytes, int]] = {}
"""All of them by path, each with the moment of its writing in wall microseconds. Single acts on a dict need no lock."""


class MemoryStorage:
    """Objects under a name, which all storages of that name in this process share."""

    def __init__(self, name: str = "") -> None:
        self.name = name.strip("/")
        self.url = f"memory://{self.name}"
        self._root = f"/{self.name}/" if self.name else "/"

    def __repr__(self) -> str:
        return f"MemoryStorage({self.name!r})"

    def write(self, key: str, pieces: Iterable[Buffer]) -> Written:
        """Keep a copy of the pieces; other threads see all of it or nothing."""
        path, content = self._path(key), bytearray()
        written = write_chunks(list(pieces), content.extend)
        _objects[path] = bytes(content), clock.now_us()
        return written

    def open(self, key: str) -> Source:
        """Return a stream over the bytes."""
        found = _objects.get(self._path(key))
        if found is None:
            raise ObjectMissing(f"The storage {self.url} has no object {shown(key, 100)}.")
        return BytesIO(found[0])

    def size(self, key: str) -> int | None:
        """Return the number of bytes."""
        found = _objects.get(self._path(key))
        return None if found is None else len(found[0])

    def delete(self, key: str) -> bool:
        """Forget the object."""
        return _objects.pop(self._path(key), None) is not None

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield what is there now."""
        for path, (content, modified_us) in list(_objects.items()):
            if path.startswith(self._root + prefix):
                yield StoredObject(path[len(self._root) :], len(content), modified_us)

    def clear_leftovers(self, before_us: int) -> int:
        """Do nothing: no writer that was killed has left anything in this process."""
        return 0

    def _path(self, key: str) -> str:
        return self._root + check_key(key)
