"""Pauses in the history in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from prefect_core import clock
from prefect_core.errors import NotRunnableAgain
from prefect_core.history.batch import Row
from prefect_core.history.pauses import NEVER_RESUMED, PauseRow
from prefect_core.history.store import IN_MEMORY

if TYPE_CHECKING:
    from prefect_core.history.process import ProcessIdentity
    from prefect_core.history.stored import Reopened


class MemoryPauses:
    """A `Pauses` over the store's rows."""

    def __init__(
        self, rows: Mapping[Row, Row], fail: Callable[[int, str], bool], lock: AbstractContextManager[Any]
    ) -> None:
        """`fail` ends a paused run with that message, or tells that it is not paused."""
        self._rows = rows
        self._fail = fail
        self._lock = lock

    def pauses(self, run: int) -> list[PauseRow]:
        """Return the pauses of a flow run, first to last."""
        with self._lock:
            return [PauseRow(*row) for key, row in sorted(self._rows.items()) if key[0] == run]

    def expire_pauses(self) -> list[int]:
        """End the suspended runs that can no longer be resumed, once their process has left them."""
        now_us = clock.now_us()
        with self._lock:
            pauses = [PauseRow(*row) for row in self._rows.values()]
            late = [
                pause.run
                for pause in pauses
                if pause.is_suspended and pause.is_open and pause.left_us and (pause.until_us or now_us + 1) <= now_us
            ]
            return [run for run in late if self._fail(run, NEVER_RESUMED)]

    def resume_run(
        self,
        run: int,
        process: int,
        resumed_by: str,
        given: str | None,
        is_gone: Callable[[ProcessIdentity], bool | None],
    ) -> Reopened:
        """Refuse: no other process has this history."""
        raise NotRunnableAgain(IN_MEMORY)
