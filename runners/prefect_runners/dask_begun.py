"""What had begun on a Dask worker that has ended, as far as anybody can still tell.

A worker notes what it begins in its own folder (`beginnings`), which Dask's lock shows to be left behind once the process is gone. The
folder is read here if the worker was on this machine, else by another worker of its host.
"""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from distributed.comm.addressing import get_address_host

from prefect_runners import beginnings
from prefect_runners.beginnings import Beginnings

_NAME = "prefect-core-begun"
_DIES_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_of_workers: WeakKeyDictionary[Any, Beginnings] = WeakKeyDictionary()
_lock = threading.Lock()


def of(worker: Any) -> Beginnings:
    """Return what a worker of this process notes its beginnings in. Raises `OSError`."""
    known = _of_workers.get(worker)
    if known is None:
        with _lock:
            known = _of_workers.get(worker)
            if known is None:
                known = _of_workers[worker] = Beginnings(Path(worker.local_directory) / _NAME)
    return known


def among(keys: Collection[str], worker: str, folders: Mapping[str, str], client: Any) -> list[str] | None:
    """Return which attempts had begun on a worker that has ended; None if nobody knows.

    `folders` are where this worker and those that live have their files, by address.
    """
    folder, host = folders.get(worker), get_address_host(worker)
    if folder is None:
        return None
    if host in _LOOPBACK:
        return look_in(folder, list(keys))
    theirs = [one for one in folders if one != worker and get_address_host(one) == host]
    if not theirs:
        return None
    ask = partial(client.sync, client._run, look_in, folder, list(keys), workers=theirs, on_error="ignore")
    try:
        answers = ask(callback_timeout=_ANSWER_SECONDS)
    except Exception:
        return None
    return next((begun for begun in answers.values() if begun is not None), None)


def look_in(folder: str, keys: Collection[str]) -> list[str] | None:
    """Return which of `keys` began in the process whose folder this was; None while it may live, or if nothing is left of it."""
    try:
        with Path(f"{folder}.dirlock").open("rb") as lock:
            deadline = time.monotonic() + _DIES_SECONDS
            # Whoever sees its connections end may be faster than the end of its process.
            while not _is_taken(lock):
                if time.monotonic() > deadline:
                    return None
                time.sleep(0.01)
            # Nobody removes the folder as long as the lock is held.
            return _begun_in(Path(folder), keys)
    except OSError:
        return None


def _is_taken(lock: Any) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _begun_in(folder: Path, keys: Collection[str]) -> list[str] | None:
    try:
        return beginnings.begun_among(folder / _NAME, keys)
    except FileNotFoundError:
        # It had not begun anything yet.
        return [] if folder.is_dir() else None
