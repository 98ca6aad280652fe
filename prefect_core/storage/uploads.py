"""The single acts on a file system of fsspec: uploading, moving, sizes, reading in steps."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from prefect_core.buffers import Buffer
from prefect_core.storage.chunks import write_chunks
from prefect_core.storage.interface import Written
from prefect_core.storage.keys import temporary_name
from prefect_core.storage.time_limit import within

PART = 16 << 20
"""How many bytes are uploaded at a time; S3 takes 10,000 such parts."""

STEP = 8 << 20
"""How many bytes are asked for at a time: each such part must come in time."""


def upload(fs: Any, path: str, pieces: list[Buffer], moved: Callable[[], None]) -> Written:
    """Upload to an object store, where nothing is seen of it before the file is closed.

    Once it is being closed, an upload that is given up may still arrive, whole: then the checksum tells it from what was acknowledged.
    """
    file = fs.open(path, "wb", block_size=PART)
    try:
        written = _write_to(file, pieces, moved)
        file.close()
    except BaseException:
        # Closing would complete the upload with what is there, and so would the garbage collector.
        with suppress(Exception):
            file.discard()
        file.closed = True
        raise
    return written


def write_and_move(fs: Any, path: str, pieces: list[Buffer], moved: Callable[[], None]) -> Written:
    """Write a file under another name first, on a server that shows files while they are written."""
    folder, _, _ = path.rpartition("/")
    temporary = f"{folder}/{temporary_name()}"
    fs.makedirs(folder, exist_ok=True)
    try:
        with fs.open(temporary, "wb") as file:
            written = _write_to(file, pieces, moved)
        size = size_of(fs, temporary)
        if size != written.size:
            raise OSError(f"{written.size} bytes were sent, and the store says that there are {size}")
        moved()
        _move(fs, temporary, path)
    except BaseException:
        with suppress(Exception):
            fs.rm_file(temporary)
        raise
    return written


def _move(fs: Any, temporary: str, path: str) -> None:
    # Where there is both, this one renames, and `mv` copies what others may see half-done.
    move = getattr(fs, "mv_file", fs.mv)
    try:
        move(temporary, path)
    except FileExistsError:
        is_moved = False
    else:
        is_moved = size_of(fs, temporary) is None
    if not is_moved:
        # A server that does not replace, and may not say so: without the earlier object first, then.
        with suppress(FileNotFoundError):
            fs.rm_file(path)
        move(temporary, path)


def _write_to(file: Any, pieces: list[Buffer], moved: Callable[[], None]) -> Written:
    def write(chunk: Buffer) -> None:
        file.write(chunk)
        moved()

    written = write_chunks(pieces, write)
    moved()
    return written


def size_of(fs: Any, path: str) -> int | None:
    """Return the size of the file, None if there is none."""
    # What the store says, not what an earlier listing said.
    fs.invalidate_cache()
    try:
        info = fs.info(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None if info.get("type") == "directory" else int(info["size"])


class Stream(io.RawIOBase):
    """A file of fsspec, each read of which must end in time."""

    def __init__(self, file: Any, stall_seconds: float) -> None:
        super().__init__()
        self._file = file
        self._stall_seconds = stall_seconds

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read one part."""
        view = memoryview(buffer).cast("B")
        data = self._read(min(len(view), STEP))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """Read part after part."""
        return b"".join(iter(lambda: self._read(STEP), b""))

    def _read(self, size: int) -> bytes:
        return within(self._stall_seconds, lambda _: bytes(self._file.read(size)))

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()
