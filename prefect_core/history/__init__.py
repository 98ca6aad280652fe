"""What happened: every run, its attempts, its states and its log records, kept where any later process can read them.

The engine speaks to a `Recorder`, which never makes it wait; the command line and tests read from a `HistoryStore`. The recorder of this
process is opened when it is first asked for, in PREFECT_CORE_HOME. A child made by `fork` gets one of its own.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from prefect_core import settings
from prefect_core.errors import HistoryError
from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.recording import Durable, Recorder, enter_both
from prefect_core.history.store import HistoryStore

__all__ = [
    "Durable",
    "HistoryStore",
    "Recorder",
    "StoreRecorder",
    "accompany",
    "current",
    "enter_both",
    "install",
    "limits_nearby",
    "open_store",
    "opened",
    "reading",
]

if TYPE_CHECKING:
    from prefect_core.history.limits import LimitTable
    from prefect_core.history.sqlite.writer import SqliteWriter

_companions: list[Callable[[StoreRecorder], object]] = []
_current: Recorder | None = None
_opening = threading.RLock()


def current() -> Recorder:
    """Return the recorder of this process. The first call opens the history, and raises `HistoryError` if that can't be done."""
    recorder = _current
    return recorder if recorder is not None else _open()


def opened() -> Recorder | None:
    """Return the recorder of this process; None if it has none yet, or none any more."""
    return _current


def install(recorder: Recorder | None) -> Recorder | None:
    """Make `recorder` the one of this process and return the one it replaces, which is not closed; None: open anew when needed."""
    global _current
    with _opening:
        previous, _current = _current, recorder
        return previous


def accompany(begin: Callable[[StoreRecorder], object]) -> None:
    """Have `begin` called with each recorder that is opened for this process, or for a child of it."""
    _companions.append(begin)


def open_store(home: Path | None = None) -> HistoryStore:
    """Open a history for reading, made if it is missing; by default the one in PREFECT_CORE_HOME. Raises `HistoryError`."""
    from prefect_core.history.sqlite.store import (
        SqliteStore,
    )  # loads sqlite3, which only the first use of a history should

    return SqliteStore(home if home is not None else settings.current().home)


def limits_nearby() -> tuple[LimitTable, int]:
    """Return the limits of the history in PREFECT_CORE_HOME for a process that does not record there, and the number it gets there.

    Raises `HistoryError` if there is no history.
    """
    from prefect_core.history.sqlite.store import SqliteStore  # as above

    home = settings.current().home
    if not SqliteStore.is_in(home):
        raise HistoryError(f"There is no history in {home}.")
    store = SqliteStore(home)
    try:
        return store.limits_alone(), store.next_key() >> 32
    finally:
        store.close()


@contextmanager
def reading() -> Iterator[HistoryStore]:
    """Give the history for reading: that of this process's recorder, all that was recorded included, or else one opened for the block.

    Raises `HistoryError` in a worker of a cluster on another machine than its history.
    """
    recorder = _current
    if isinstance(recorder, StoreRecorder):
        recorder.flush()
        yield recorder.stored()
        return
    if recorder is not None:
        recorder.check_is_near()
    store = open_store()
    try:
        yield store
    finally:
        store.close()


def _reader_beside(writer: SqliteWriter) -> HistoryStore:
    from prefect_core.history.sqlite.store import SqliteStore  # what readers load, which most runs never need

    return SqliteStore.beside(writer)


def _open() -> Recorder:
    global _current
    from prefect_core.history.sqlite.writer import SqliteWriter  # as above

    with _opening:
        if _current is None:
            now = settings.current()
            writer = SqliteWriter(now.home)
            opened = StoreRecorder(
                writer, now.recorder_queue, now.history_retry_seconds, lambda: _reader_beside(writer)
            )
            for begin in _companions:
                begin(opened)
            _current = opened
            _close_at_exit()
        return _current


def _close_at_exit() -> None:
    atexit.unregister(_close)
    atexit.register(_close)
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        # A process of multiprocessing that was made by fork ends without calling what atexit holds.
        sys.modules["multiprocessing.util"].Finalize(None, _close, exitpriority=0)


def _close() -> None:
    global _current
    with _opening:
        recorder, _current = _current, None
    if recorder is not None:
        recorder.close()


def _forget_in_child() -> None:
    global _current, _opening
    _opening = threading.RLock()
    # A recorder of another kind holds no connection, and may be what the parent wants its child to use.
    if isinstance(_current, StoreRecorder):
        _current = None


os.register_at_fork(after_in_child=_forget_in_child)
