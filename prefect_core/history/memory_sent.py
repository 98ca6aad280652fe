"""Inputs in the history in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

from prefect_core.history.sent import AT_ONCE, SentInput


class MemorySent:
    """A `SentInputs` in lists."""

    def __init__(self, is_open: Callable[[int], bool], lock: AbstractContextManager[Any]) -> None:
        """`is_open` tells whether a flow run is there and has not ended."""
        self._is_open = is_open
        self._lock = lock
        self._inputs: dict[int, list[SentInput]] = {}
        self.sent = 0
        """How many there ever were."""

    def send_input(self, row: SentInput) -> bool:
        """Keep an input, if its run has not ended."""
        with self._lock:
            if not self._is_open(row.run):
                return False
            self.sent += 1
            self._inputs.setdefault(row.run, []).append(row._replace(number=self.sent))
            return True

    def inputs(self, run: int, channels: Collection[str], after: int = 0) -> list[SentInput]:
        """Return the first inputs of a run in some channels that came after one."""
        with self._lock:
            found = (row for row in self._inputs.get(run, ()) if row.channel in channels and row.number > after)
            return list(islice(found, AT_ONCE))

    def has_input(self, run: int, channels: Collection[str], after: int = 0) -> bool:
        """Tell whether there is one."""
        return bool(self.inputs(run, channels, after))

    def forget(self, runs: Collection[int]) -> None:
        """Drop those of runs that are deleted."""
        with self._lock:
            for run in runs:
                self._inputs.pop(run, None)
