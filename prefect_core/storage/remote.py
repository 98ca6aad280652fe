"""Any store that fsspec reaches, by URL.

Object stores show an upload when it is complete, or never. On other servers an object is written under a temporary name and then moved to
its own. The store's acknowledgement and its size for the object are what "durable" stands on; the bytes are not read again.
"""

from __future__ import annotations

import io
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar, cast

from prefect_core import clock
from prefect_core.buffers import Buffer, Source
from prefect_core.errors import ObjectMissing, shown
from prefect_core.storage.interface import StoredObject, Written
from prefect_core.storage.keys import check_key, is_temporary
from prefect_core.storage.persistence import persistently
from prefect_core.storage.time_limit import STALL_SECONDS, within
from prefect_core.storage.uploads import STEP, Stream, size_of, upload, write_and_move

R = TypeVar("R")

UPLOADS_WHOLE = frozenset({"abfs", "abfss", "adl", "az", "gcs", "gs", "oss", "s3", "s3a"})
"""Protocols of object stores: nothing is there under a name before the upload is complete."""

# A listing gives no sign between its many pages.
_LISTING = 20
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
# What some file system of fsspec takes for a pattern, a version or the end of the path.
_SPECIAL = re.compile(r'[%*?\[\]{}#:<>|"^`]')
_ESCAPED = re.compile(r"%([0-9A-F]{2})")


class RemoteStorage:
    """Objects below a URL of fsspec. Credentials come from where the store's own library looks for them, never from the URL."""

    def __init__(self, url: str, stall_seconds: float = STALL_SECONDS) -> None:
        self.url = url.rstrip("/")
        self._is_object_store = url.partition("://")[0] in UPLOADS_WHOLE
        self._stall_seconds = stall_seconds
        self._file_systems = _FileSystems(self.url)

    def __repr__(self) -> str:
        return f"RemoteStorage({self.url!r})"

    def write(self, key: str, pieces: Iterable[Buffer]) -> Written:
        """Upload the pieces, and return once the store has acknowledged them and names the right size."""
        name, kept = _escaped(check_key(key)), list(pieces)

        def once(fs: Any, root: str, moved: Callable[[], None]) -> Written:
            path = f"{root}/{name}"
            written = (upload if self._is_object_store else write_and_move)(fs, path, kept, moved)
            size = size_of(fs, path)
            if size != written.size:
                raise OSError(f"{written.size} bytes were sent, and the store says that the object has {size}")
            return written

        return self._persistently(f"write {shown(key, 100)}", once)

    def open(self, key: str) -> Source:
        """Return a stream that asks the store for a few megabytes at a time."""
        name = _escaped(check_key(key))
        # The stream keeps what it asked for; a second store of it would be a copy.
        options = {"cache_type": "none"} if self._is_object_store else {}

        def once(fs: Any, root: str, moved: Callable[[], None]) -> Any:
            missing = ObjectMissing(f"The storage {self.url} has no object {shown(key, 100)}.")
            try:
                file = fs.open(f"{root}/{name}", "rb", **options)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                raise missing from error
            if self._is_object_store and file.details.get("type") == "directory":
                # What other keys begin with can be opened too.
                raise missing
            return file

        file = self._persistently(f"read {shown(key, 100)}", once)
        return cast("Source", io.BufferedReader(Stream(file, self._stall_seconds), STEP))

    def size(self, key: str) -> int | None:
        """Ask the store for the object's size."""
        name = _escaped(check_key(key))
        return self._persistently(f"look for {shown(key, 100)}", lambda fs, root, _: size_of(fs, f"{root}/{name}"))

    def delete(self, key: str) -> bool:
        """Remove the object."""
        return self._delete(check_key(key))

    def _delete(self, key: str) -> bool:
        name = _escaped(key)

        def once(fs: Any, root: str, moved: Callable[[], None]) -> bool:
            # Object stores acknowledge the removal of what is not there too.
            if size_of(fs, f"{root}/{name}") is None:
                return False
            with suppress(FileNotFoundError):
                fs.rm_file(f"{root}/{name}")
            return True

        return self._persistently(f"delete {shown(key, 100)}", once)

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield what a listing of the store shows."""
        return (found for found in self._listed(prefix) if not is_temporary(found.key.rpartition("/")[2]))

    def clear_leftovers(self, before_us: int) -> int:
        """Remove temporary objects that were last written before that moment."""
        left = [found for found in self._listed("") if is_temporary(found.key.rpartition("/")[2])]
        return sum(self._delete(found.key) for found in left if found.modified_us < before_us)

    def _listed(self, prefix: str) -> Iterator[StoredObject]:
        if {".", ".."}.intersection(prefix.split("/")):
            return
        folder = _escaped(prefix.rpartition("/")[0])

        def once(fs: Any, root: str, moved: Callable[[], None]) -> list[StoredObject]:
            fs.invalidate_cache()
            try:
                found = fs.find(f"{root}/{folder}".rstrip("/"), detail=True)
            except FileNotFoundError:
                return []
            return [_stored_object(path[len(root) :], info) for path, info in found.items()]

        for found in self._persistently("list its objects", once, self._stall_seconds * _LISTING):
            if found.key.startswith(prefix):
                yield found

    def _persistently(
        self, what: str, once: Callable[[Any, str, Callable[[], None]], R], stall_seconds: float = 0
    ) -> R:
        def in_time(moved: Callable[[], None]) -> R:
            fs, root = self._file_systems.take()
            outcome = once(fs, root, moved)
            # Not after a failure: its connection may be in the middle of something.
            self._file_systems.give_back(fs)
            return outcome

        return persistently(self.url, what, lambda: within(stall_seconds or self._stall_seconds, in_time))


class _FileSystems:
    """The file systems of fsspec for one URL: one for all threads if it has an event loop of its own, else one for each act under way."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._owner = os.getpid()
        self._idle: deque[Any] = deque()
        self._root = ""

    def take(self) -> tuple[Any, str]:
        """Return one, and the path in it that the URL names."""
        if self._owner != os.getpid():
            # After a fork: the connections are the parent's.
            self._owner, self._idle = os.getpid(), deque()
        try:
            fs = self._idle.pop()
        except IndexError:
            from fsspec.core import url_to_fs  # loads much, and most storages are folders

            fs, root = url_to_fs(self._url, skip_instance_cache=True)
            self._root = root.rstrip("/")
        if fs.async_impl:
            self._idle.append(fs)
        return fs, self._root

    def give_back(self, fs: Any) -> None:
        """Let the next act use this one."""
        if not fs.async_impl:
            self._idle.append(fs)


def _escaped(key: str) -> str:
    return _SPECIAL.sub(lambda found: f"%{ord(found[0]):02X}", key)


def _unescaped(path: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), path)


def _stored_object(path: str, info: dict[str, Any]) -> StoredObject:
    return StoredObject(_unescaped(path.lstrip("/")), int(info.get("size") or 0), _modified_us(info))


def _modified_us(info: dict[str, Any]) -> int:
    for name in _TIMES:
        value = info.get(name)
        if isinstance(value, datetime):
            return clock.from_datetime(value)
        if isinstance(value, int | float):
            return int(value * 1_000_000)
        if isinstance(value, str):
            with suppress(ValueError):
                return clock.from_datetime(datetime.fromisoformat(value))
    return 0
