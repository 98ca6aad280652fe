"""Locks as files of a folder, among all who can reach it.

Each lock is a file `<key>.lock` with its holder, that one's process and the end it has set, in JSON. A file is changed only by who holds
the system's own lock on the folder's file `.guard`, for the moment that takes.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect_core import clock, moments
from prefect_core.history.locks import LockRow
from prefect_core.history.process import ProcessIdentity, is_gone, this_process
from prefect_core.locking.interface import LockManager, asking, not_held
from prefect_core.locking.renewing import Renewer
from prefect_core.storage.keys import file_name_of


class FileSystemLockManager(LockManager):
    """Locks in a folder. What a process of the same machine held that has ended is free; one of another machine's after a minute."""

    def __init__(self, lock_files_directory: str | Path) -> None:
        self.lock_files_directory = Path(lock_files_directory).expanduser().absolute()
        self._inside = threading.Lock()
        self._renewer = Renewer(self._renew)
        self._held_here: dict[str, Path] = {}

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        return moments.run(asking(lambda: self._take(key, holder, hold_timeout), acquire_timeout))

    def _take(self, key: str, holder: str, hold_timeout: float | None) -> bool:
        path = self._path(key)
        with self._guarded():
            row = _read(path, key)
            if row is not None and row.holder != holder:
                return False
            expires_us = None if hold_timeout is None else clock.now_us() + int(hold_timeout * 1_000_000)
            content = {"key": key, "holder": holder, "process": this_process(), "expiration_us": expires_us}
            new = path.with_name(f".{path.name}.new")
            new.write_text(json.dumps(content), encoding="utf-8")
            new.replace(path)
            if expires_us is None:
                self._held_here[key] = path
        if expires_us is None:
            self._renewer.begin()
        return True

    def release_lock(self, key: str, holder: str) -> None:
        path = self._path(key)
        with self._guarded():
            row = _read(path, key)
            if row is None or row.holder != holder:
                raise not_held(key, holder)
            path.unlink()
            self._held_here.pop(key, None)

    def is_locked(self, key: str) -> bool:
        return _read(self._path(key), key) is not None

    def is_lock_holder(self, key: str, holder: str) -> bool:
        row = _read(self._path(key), key)
        return row is not None and row.holder == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        return moments.run(asking(lambda: not self.is_locked(key), timeout))

    def _path(self, key: str) -> Path:
        return self.lock_files_directory / f"{file_name_of(key)}.lock"

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        self.lock_files_directory.mkdir(parents=True, exist_ok=True)
        # The system's lock is the process's own where a folder is on a network; threads need one more.
        with self._inside, (self.lock_files_directory / ".guard").open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            yield

    def _renew(self) -> int:
        with self._guarded():
            for key, path in list(self._held_here.items()):
                try:
                    os.utime(path)
                except FileNotFoundError:
                    del self._held_here[key]
            return len(self._held_here)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileSystemLockManager) and other.lock_files_directory == self.lock_files_directory

    def __hash__(self) -> int:
        return hash(self.lock_files_directory)

    def __reduce__(self) -> tuple[Any, ...]:
        return FileSystemLockManager, (self.lock_files_directory,)


def _read(path: Path, key: str) -> LockRow | None:
    """Return who has the lock now; None if it is free."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        renewed_us = path.stat().st_mtime_ns // 1000
        row = LockRow(
            key, content["holder"], ProcessIdentity(*content["process"]), content["expiration_us"], renewed_us
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        # A file that is no lock of ours was left by a disk that had no room; nobody holds it.
        return None
    return None if row.is_free(clock.now_us(), is_gone) else row
