"""The memory of this process as a storage, for tests and for results that nothing outlives: fsspec's, so that others see it too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any

from prefect_core import clock
from prefect_core.buffers import Buffer, Source
from prefect_core.errors import ObjectMissing, shown
from prefect_core.storage.chunks import write_chunks
from prefect_core.storage.interface import StoredObject, Written
from prefect_core.storage.keys import check_key


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
        _file_system().pipe_file(path, bytes(content))
        return written

    def open(self, key: str) -> Source:
        """Return a stream over the bytes."""
        try:
            # `open` of fsspec would give all readers one and the same stream.
            return BytesIO(_file_system().cat_file(self._path(key)))
        except FileNotFoundError as error:
            raise ObjectMissing(f"The storage {self.url} has no object {shown(key, 100)}.") from error

    def size(self, key: str) -> int | None:
        """Return the number of bytes."""
        file = _file_system().store.get(self._path(key))
        return None if file is None else int(file.getbuffer().nbytes)

    def delete(self, key: str) -> bool:
        """Forget the object."""
        return _file_system().store.pop(self._path(key), None) is not None

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield what is there now."""
        for path, file in list(_file_system().store.items()):
            if path.startswith(self._root + prefix):
                yield StoredObject(path[len(self._root) :], file.getbuffer().nbytes, clock.from_datetime(file.modified))

    def clear_leftovers(self, before_us: int) -> int:
        """Do nothing: no writer that was killed has left anything in this process."""
        return 0

    def _path(self, key: str) -> str:
        return self._root + check_key(key)


def _file_system() -> Any:
    import fsspec  # loads much, and most storages are folders

    return fsspec.filesystem("memory")
