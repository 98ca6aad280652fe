"""A folder of this machine as a storage. An object is written under a temporary name, made durable, and only then renamed to its own.

fsspec's local file system is not used: it calls no fsync, so what it has written may be gone after a power cut.

Every step goes through open folders (`dir_fd`) and follows no symbolic link below the root, so a key can't lead out of it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from prefect_core.buffers import Buffer, Source
from prefect_core.crash_points import crash_point
from prefect_core.errors import ObjectMissing, shown
from prefect_core.storage.chunks import write_chunks
from prefect_core.storage.interface import StoredObject, Written
from prefect_core.storage.keys import check_key, is_temporary, temporary_name
from prefect_core.storage.persistence import persistently

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BELOW = _FOLDER | os.O_NOFOLLOW
# Whatever lies there instead of a file, such as a pipe, is not waited for.
_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_NO_OBJECT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})


def path_of_url(url: str) -> Path:
    """Return the path that a "file://" URL names."""
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"}:
        raise ValueError(f"{url!r} names a folder of another machine; a local one is file:///folder.")
    # Not parts.path, which ends at a "?" or "#": in a path these are characters like others.
    return Path(os.fsdecode(unquote_to_bytes(url.partition("://")[2].removeprefix(parts.netloc))))


class LocalStorage:
    """Objects as files below a folder, which is made (0700) when the first one is written; the files are for this user only (0600)."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(os.path.normpath(Path(root).expanduser().absolute()))
        self.url = f"file://{quote_from_bytes(os.fsencode(self.root))}"
        self._durable: set[tuple[str, ...]] = set()
        """The folders of which this process knows that their names are on the disk."""

    def __repr__(self) -> str:
        return f"LocalStorage({str(self.root)!r})"

    def write(self, key: str, pieces: Iterable[Buffer]) -> Written:
        """Write a file, and return once it and its name are on the disk."""
        *folders, name = check_key(key).split("/")
        kept = list(pieces)
        return persistently(self.url, f"write {shown(key, 100)}", lambda: self._write(folders, name, kept))

    def _write(self, folders: list[str], name: str, pieces: list[Buffer]) -> Written:
        crash_point("storage.before_write")
        with self._folder(folders, make=True) as folder:
            temporary = temporary_name()
            try:
                written = _write_file(temporary, folder, pieces)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            crash_point("storage.after_rename")
            os.fsync(folder)
            crash_point("storage.after_folder")
            return written

    def open(self, key: str) -> Source:
        """Open the file."""
        *folders, name = check_key(key).split("/")
        return persistently(self.url, f"read {shown(key, 100)}", lambda: self._open(folders, name, key))

    def _open(self, folders: list[str], name: str, key: str) -> Source:
        try:
            with self._folder(folders) as folder:
                descriptor = os.open(name, _OLD_FILE, dir_fd=folder)
        except OSError as error:
            if error.errno not in _NO_OBJECT:
                raise
            raise ObjectMissing(f"The storage {self.url} has no object {shown(key, 100)}.") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ObjectMissing(f"The storage {self.url} has no object {shown(key, 100)}: that is a folder.")
        return os.fdopen(descriptor, "rb")

    def size(self, key: str) -> int | None:
        """Return the size of the file, if there is one."""
        *folders, name = check_key(key).split("/")

        def once() -> int | None:
            try:
                with self._folder(folders) as folder:
                    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                return None
            return found.st_size if stat.S_ISREG(found.st_mode) else None

        return persistently(self.url, f"look for {shown(key, 100)}", once)

    def delete(self, key: str) -> bool:
        """Remove the file. Its folder stays, since somebody may be about to write into it."""
        *folders, name = check_key(key).split("/")

        def once() -> bool:
            try:
                with self._folder(folders) as folder:
                    os.unlink(name, dir_fd=folder)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return False
            return True

        return persistently(self.url, f"delete {shown(key, 100)}", once)

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the files, folder by folder."""
        for folders, name, found in self._files(prefix.split("/")[:-1]):
            key = "/".join((*folders, name))
            if key.startswith(prefix) and not is_temporary(name):
                yield StoredObject(key, found.st_size, found.st_mtime_ns // 1000)

    def clear_leftovers(self, before_us: int) -> int:
        """Remove temporary files that were last written before that moment."""
        count = 0
        for folders, name, found in self._files([]):
            if is_temporary(name) and found.st_mtime_ns // 1000 < before_us:
                with suppress(FileNotFoundError), self._folder(folders) as folder:
                    os.unlink(name, dir_fd=folder)
                    count += 1
        return count

    def _files(self, folders: list[str]) -> Iterator[tuple[list[str], str, os.stat_result]]:
        waiting = [] if {"", ".", ".."}.intersection(folders) else [folders]
        while waiting:
            folders = waiting.pop()
            for name, found in self._entries(folders):
                if stat.S_ISDIR(found.st_mode):
                    waiting.append([*folders, name])
                elif stat.S_ISREG(found.st_mode):
                    yield folders, name, found

    def _entries(self, folders: list[str]) -> list[tuple[str, os.stat_result]]:
        def once() -> list[tuple[str, os.stat_result]]:
            found = []
            with (
                suppress(FileNotFoundError, NotADirectoryError),
                self._folder(folders) as folder,
                os.scandir(folder) as entries,
            ):
                for entry in entries:
                    # Removed meanwhile: then it is there no more.
                    with suppress(FileNotFoundError):
                        found.append((entry.name, entry.stat(follow_symlinks=False)))
            return found

        return persistently(self.url, "list its objects", once)

    @contextmanager
    def _folder(self, names: list[str], *, make: bool = False) -> Iterator[int]:
        """Open the folder below the root that these names lead to, made where it is missing and `make` says so."""
        if make:
            self._make_root()
        folder = os.open(self.root, _FOLDER)
        try:
            for count, name in enumerate(names, 1):
                if make:
                    self._make_below(folder, tuple(names[:count]))
                inner = _open_below(folder, name)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def _make_below(self, folder: int, path: tuple[str, ...]) -> None:
        with suppress(FileExistsError):
            os.mkdir(path[-1], mode=0o700, dir_fd=folder)
            self._durable.discard(path)
        if path not in self._durable:
            # Found, but perhaps made by a process that was killed before it came to this.
            os.fsync(folder)
            self._durable.add(path)

    def _make_root(self) -> None:
        if () in self._durable and self.root.is_dir():
            return
        missing = [folder for folder in (self.root, *self.root.parents) if not folder.is_dir()]
        for folder in reversed(missing):
            with suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            _sync_folder(folder.parent)
        if not missing:
            # As above; but a folder that is not ours may be one that we can't even read.
            with suppress(PermissionError):
                _sync_folder(self.root.parent)
        self._durable.add(())


def _write_file(name: str, folder: int, pieces: list[Buffer]) -> Written:
    descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        written = write_chunks(pieces, lambda chunk: _write_all(descriptor, chunk))
        crash_point("storage.after_write")
        os.fsync(file)
        crash_point("storage.after_fsync")
    return written


def _write_all(descriptor: int, chunk: Buffer) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, _FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_below(folder: int, name: str) -> int:
    try:
        return os.open(name, _BELOW, dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            raise NotADirectoryError(
                errno.ENOTDIR, f"{shown(name, 100)} is a file, where a folder of the storage should be"
            ) from error
        raise
