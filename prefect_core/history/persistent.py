"""Writes batches as long as that makes sense, and keeps account of what could not be written.

A write that fails is tried again for `retry_seconds`, each time with new connections. Then its rows are given up: a warning is logged,
the failure is kept for whoever waits for it, and the history gets its mark `incomplete` with the next write that works. While rows are
missing, each batch gets one try only, so that a broken disk does not hold up the program batch by batch. A history that is merely locked
by others is waited for by its store, without limit.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from prefect_core import clock
from prefect_core.crash_points import crash_point
from prefect_core.errors import HistoryError, LeaseLost
from prefect_core.history.batch import Batch

if TYPE_CHECKING:
    from prefect_core.history.store import HistoryWriter

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 0.5
_log = logging.getLogger("prefect_core.history")


class PersistentWriter:
    """A store's writing half with patience. For one thread at a time."""

    def __init__(self, store: HistoryWriter, retry_seconds: float) -> None:
        self._store = store
        self._retry_seconds = retry_seconds
        self._missing_rows = 0
        self._missing_since_us = 0
        self._ever_missed = False
        self._failure: HistoryError | None = None
        self.lost: LeaseLost | None = None
        """Why nothing is written any more, once that is so."""

    def write(self, batch: Batch) -> bool:
        """Write a batch, or give it up; returns whether it was written."""
        if self.lost is not None:
            return False
        rows = len(batch)
        if self._missing_rows:
            batch.incomplete = (self._missing_since_us, self._missing_rows)
        elif not rows:
            return True
        crash_point("recorder.before_write")
        failure = self._try(batch)
        crash_point("recorder.after_write")
        if failure is None:
            self._missing_rows = 0
        elif self.lost is None:
            self.give_up(rows, failure)
        return failure is None

    def write_at_once(self, batch: Batch) -> bool:
        """Write a batch if that needs no patience; False if it does, or what came of it is not known."""
        if self._missing_rows or self.lost is not None:
            return False
        if not len(batch):
            return True
        crash_point("recorder.before_write")
        try:
            self._store.write_at_once(batch)
        except HistoryError:
            return False
        crash_point("recorder.after_write")
        return True

    def _try(self, batch: Batch) -> HistoryError | None:
        deadline = time.monotonic() + (0.0 if self._missing_rows else self._retry_seconds)
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                self._store.write(batch)
            except LeaseLost as error:
                self.lost = error
                return error
            except HistoryError as error:
                failure = error
            else:
                return None
            if time.monotonic() >= deadline:
                return failure
            time.sleep(pause)  # the disk is given time to recover
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            self._reopen()

    def give_up(self, rows: int, failure: HistoryError) -> None:
        """Count rows as missing."""
        self._ever_missed = True
        if not self._missing_rows:
            self._missing_since_us = clock.now_us()
            _log.warning("The history is incomplete from now on, the program goes on: %s", failure)
        self._missing_rows += rows
        self._failure = failure
        self._reopen()

    def take_failure(self) -> HistoryError | None:
        """Return the last failure, once; that the lease was lost, each time."""
        if self.lost is not None:
            return self.lost
        failure, self._failure = self._failure, None
        return failure

    def let_go(self, *, has_open_runs: bool) -> None:
        """Give up the lease, if it is there still; others will notice at once if that fails."""
        if self.lost is not None:
            return
        try:
            # Of what could not be written it is not known what it leaves open.
            self._store.let_go(has_open_runs=has_open_runs or self._ever_missed)
        except Exception:
            _log.debug("The lease was not given up.", exc_info=True)

    def _reopen(self) -> None:
        try:
            self._store.reopen()
        except HistoryError:
            _log.debug("The history can't be opened again yet.", exc_info=True)

    def tidy(self) -> None:
        """Make a checkpoint where it is time for one."""
        try:
            self._store.checkpoint()
        except Exception:
            _log.debug("The history was not tidied up.", exc_info=True)

    def mark_incomplete(self) -> None:
        """Try a last time to leave the mark of missing rows."""
        if self._missing_rows:
            try:
                self.write(Batch())
            except Exception:
                _log.debug("The history could not be marked incomplete.", exc_info=True)
