"""A recorder without a thread or a file: it keeps what it is told, for tests that ask in which order things were said."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import NamedTuple

from prefect_core.errors import HistoryError
from prefect_core.history.batch import Row
from prefect_core.history.memory import MemoryStore
from prefect_core.history.memory_limits import MemoryLimits
from prefect_core.history.recording import Durable, enter_both
from prefect_core.runs import Run, TaskRun
from prefect_core.states import State


class Recorded(NamedTuple):
    """One thing the recorder was told; `state` is the run's first state, or the one it entered."""

    what: str
    """"created", "entered" or "renamed"."""
    run: Run
    state: State
    attempt: int


class ListRecorder:
    """A `Recorder` in a list. `flush_error` is raised by the flushes that come while it is set."""

    owns_runs = False

    def __init__(self) -> None:
        self.events: list[Recorded] = []
        self.log_records: list[tuple[Run | None, int, str, str]] = []
        self.rows: list[tuple[str, Row]] = []
        """What was said of stored results: tables, each with a row."""
        self.process = 0
        self.flushes = 0
        self.flush_error: BaseException | None = None
        self._keys = itertools.count(1)
        self._limits = MemoryLimits()
        self._lock = threading.Lock()

    def check_is_near(self) -> None:
        """Do nothing: its history is here."""

    def has_unanswered(self) -> bool:
        return False

    def created(self, run: Run) -> None:
        run.key = next(self._keys)
        self._note("created", run, run.state)

    def entered(self, run: Run, state: State) -> None:
        self._note("entered", run, state)

    def ran(self, run: TaskRun, started_us: int, state: State) -> None:
        enter_both(self, run, started_us, state)

    def renamed(self, run: Run) -> None:
        self._note("renamed", run, run.state)

    def logged(self, run: Run | None, level: int, logger: str, message: str, timestamp_us: int) -> None:
        self.log_records.append((run, level, logger, message))

    def noted(self, rows: Sequence[tuple[str, Row]]) -> None:
        self.rows += rows

    def new_key(self) -> int:
        return next(self._keys)

    def stored(self) -> MemoryStore:
        """Return an empty history: what this recorder is told is never asked for."""
        return MemoryStore()

    def limits(self) -> tuple[MemoryLimits, int]:
        return self._limits, self.process

    def durable(self) -> Durable:
        done = Durable(None)
        self.flushes += 1
        done.answer(self.flush_error if isinstance(self.flush_error, HistoryError) else None)
        return done

    def flush(self) -> None:
        self.flushes += 1
        if self.flush_error is not None:
            raise self.flush_error

    def close(self) -> None:
        """There is nothing to close."""

    def states_of(self, run: Run) -> list[State]:
        """Return the states that were recorded of a run, the first one included, in the order in which they were said."""
        return [event.state for event in self.events if event.run is run and event.what != "renamed"]

    def runs(self) -> list[Run]:
        """Return the runs in the order in which they were created."""
        return [event.run for event in self.events if event.what == "created"]

    def _note(self, what: str, run: Run, state: State) -> None:
        with self._lock:
            self.events.append(Recorded(what, run, state, run.attempt))
