"""What a Dask worker runs for the Dask runner: attempts, and answers to questions about them."""

from __future__ import annotations

import importlib
import pickle
import threading
from collections.abc import Collection
from typing import Any

from dask.sizeof import sizeof
from distributed import get_worker

import prefect_core
from prefect_core.engine import in_place
from prefect_core.engine.in_place import Outcome
from prefect_core.engine.workplace import Parcel

REPLY = "reply"
"""The third kind of message, beside `in_place.BEGUN` and `HAPPENED`."""
_MOST_REMEMBERED = 10_000


@sizeof.register(Outcome)  # type: ignore[untyped-decorator]  # Dask is left untyped
def _size_of_outcome(outcome: Outcome) -> int:
    # By it Dask decides what to move, and what to spill.
    return int(sizeof(outcome.value)) + len(outcome.reply)


class Begun:
    """Which attempts began in this process, and which were taken back before they could."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[str, None] = {}
        self._taken_back: dict[str, None] = {}
        self._running: set[str] = set()

    def may_begin(self, key: str) -> bool:
        """Take note that an attempt begins, unless it was taken back."""
        with self._lock:
            if key in self._taken_back:
                return False
            self._running.add(key)
            self._begun[key] = None
            _forget_oldest(self._begun)
            return True

    def ended(self, key: str) -> None:
        """Take note of its end."""
        with self._lock:
            self._running.discard(key)

    def take_back(self, keys: Collection[str]) -> list[str]:
        """Keep attempts from beginning here; returns those that have begun."""
        with self._lock:
            begun = [one for one in keys if one in self._running or one in self._begun]
            self._taken_back.update(dict.fromkeys(set(keys).difference(begun)))
            _forget_oldest(self._taken_back)
            return begun


def _forget_oldest(keys: dict[str, None]) -> None:
    while len(keys) > _MOST_REMEMBERED:
        del keys[next(iter(keys))]


_here = Begun()


def work(dumped: bytes, *inputs: Any) -> Outcome:
    """Run an attempt, tell the near end how it goes and how it ended, and leave its outcome with Dask."""
    topic, key, parcel = pickle.loads(dumped)
    if not _here.may_begin(key):
        return Outcome(False, b"")
    log_event = get_worker().log_event
    try:
        outcome = in_place.work(Parcel(*parcel), inputs, lambda kind, what: log_event(topic, (kind, key, what)))
    finally:
        _here.ended(key)
    log_event(topic, (REPLY, key, outcome.reply))
    return outcome


def reply_of(outcome: Outcome) -> bytes:
    """Return the reply of an attempt that has ended; run where the outcome lies."""
    return outcome.reply


def take_back(keys: Collection[str]) -> list[str]:
    """Keep attempts from beginning on this worker; returns those that have begun."""
    return _here.take_back(keys)


def failures_of_imports(modules: Collection[str]) -> dict[str, str]:
    """Return what importing modules here raises, by module."""
    failures = {}
    for module in modules:
        try:
            importlib.import_module(module)
        except BaseException as error:
            failures[module] = f"{type(error).__name__}: {error}"
    return failures


def version() -> str:
    """Return the version of prefect_core here."""
    return prefect_core.__version__
