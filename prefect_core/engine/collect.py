"""What happens inside a body that runs far from the engine, kept in order until it is sent to the process that records it (`replay`).

A worker has one `WorkerRecorder`, which is the recorder of its process while attempts run there. Each attempt has a `Collector`; what
happened belongs to the attempt whose run is around it. Events are tuples of plain values (see `outline`), so they always travel.

The worker promises nothing: `flush` returns at once, since durable is only what the main process has committed.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from prefect_core import context, history, settings
from prefect_core.engine.outline import outline
from prefect_core.engine.travelling_errors import dump_error
from prefect_core.errors import HistoryError
from prefect_core.runs import FlowRun, Run, TaskRun
from prefect_core.state_kinds import PAUSED, SCHEDULED, UNSUCCESSFUL
from prefect_core.states import State

if TYPE_CHECKING:
    from prefect_core.history.limits import LimitTable

CREATED, ENTERED, RENAMED, LOGGED, SHOWN, COUNTED = range(6)
"""(CREATED, outline, state), (ENTERED, uid, state, course, error), (RENAMED, uid, name, parameters of a flow run or None),
(LOGGED, uid or 0, level, logger, message, timestamp_us), (SHOWN, uid or 0, fields of the log record), (COUNTED, uid)."""
Event = tuple[Any, ...]

_MOST_KEPT = 2_000


class Collector:
    """The events of one attempt. When there are many, they are sent ahead through `outlet`, where the runner has one."""

    def __init__(self, place: str, outlet: Callable[[bytes], object] | None) -> None:
        self._place = place
        self._outlet = outlet
        self._events: deque[Event] = deque()
        self._sending = threading.Lock()

    def add(self, event: Event) -> None:
        """Keep an event; blocks while many are sent ahead."""
        self._events.append(event)
        if self._outlet is not None and len(self._events) >= _MOST_KEPT:
            self.send_ahead()

    def send_ahead(self) -> None:
        """Send the events since the last time, if there is a way to and there are some."""
        with self._sending:
            events = self._take()
            if events and self._outlet is not None:
                self._outlet(pickle.dumps(events))

    def take_last(self) -> list[Event]:
        """Return the events since the last time, once all that was sent ahead is on its way."""
        with self._sending:
            return self._take() if self._events else []

    def _take(self) -> list[Event]:
        events = self._events
        return [events.popleft() for _ in range(len(events))]

    def error(self, state: State) -> bytes | None:
        """Return what ended a run, for states whose end others may have to raise."""
        data = state.data
        return dump_error(data, self._place) if state.type in UNSUCCESSFUL and isinstance(data, BaseException) else None


class WorkerRecorder:
    """A `Recorder` that hands everything to the collector of the attempt that it happened in.

    `behind` is the recorder that the process had before, for what belongs to no attempt; without one, that is dropped.
    """

    def __init__(self) -> None:
        self.behind: history.Recorder | None = None
        self.collectors: dict[Run, Collector] = {}
        """By the run of the attempt."""
        self.origin = ""
        """The process that attempts come from, as host:pid."""
        self._limits: dict[str, tuple[LimitTable, int]] = {}
        self._opening_limits = threading.Lock()

    def collector_of(self, run: Run | None) -> Collector | None:
        """Return the collector of the attempt that a run is inside of; None if that has ended, or there is none."""
        while run is not None:
            found = self.collectors.get(run)
            if found is not None:
                return found
            inner = run
            run = inner.parent_task_run
            if run is None and isinstance(inner, TaskRun):
                run = inner.flow_run
        return None

    def created(self, run: Run) -> None:
        collector = self.collector_of(run)
        if collector is not None:
            collector.add((CREATED, outline(run), _plain(run.state)))
        elif self.behind is not None:
            self.behind.created(run)

    def entered(self, run: Run, state: State) -> None:
        collector = self.collector_of(run)
        if collector is not None:
            place = run.runner_name if isinstance(run, FlowRun) else run.worker
            course = (run.attempt, run.run_count, run.started_us, place)
            collector.add((ENTERED, run.uid, _plain(state), course, collector.error(state)))
        elif self.behind is not None and run.key:
            self.behind.entered(run, state)

    def ran(self, run: TaskRun, started_us: int, state: State) -> None:
        history.enter_both(self, run, started_us, state)

    def renamed(self, run: Run) -> None:
        collector = self.collector_of(run)
        if collector is not None:
            collector.add((RENAMED, run.uid, run.name, run.parameters if isinstance(run, FlowRun) else None))
        elif self.behind is not None and run.key:
            self.behind.renamed(run)

    def counted(self, run: TaskRun) -> None:
        """Take note that a run is over which the flow run in the main process counts among its children."""
        collector = self.collector_of(run)
        if collector is not None:
            collector.add((COUNTED, run.uid))

    def logged(self, run: Run | None, level: int, logger: str, message: str, timestamp_us: int) -> None:
        run, collector = self._around(run)
        if collector is not None:
            collector.add((LOGGED, run.uid if run is not None else 0, level, logger, message, timestamp_us))
        elif self.behind is not None:
            self.behind.logged(run, level, logger, message, timestamp_us)

    def shown(self, run: Run | None, fields: dict[str, Any]) -> None:
        """Take a log record that the handlers of the main process are to see."""
        run, collector = self._around(run)
        if collector is not None:
            collector.add((SHOWN, run.uid if run is not None else 0, fields))

    def _around(self, run: Run | None) -> tuple[Run | None, Collector | None]:
        if run is None:
            around = context.current()
            run = around.run if around is not None else None
        if run is None and self.behind is None and self.collectors:
            # Of no run at all: it goes with some attempt that runs here.
            return None, next(iter(self.collectors.values()))
        return run, self.collector_of(run)

    owns_runs = False

    # Results of runs inside an attempt are not stored, see `Dispatcher.keeps_results`; what else asks is of the process around.

    @property
    def process(self) -> int:
        return self.behind.process if self.behind is not None else 0

    def noted(self, rows: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
        if self.behind is not None:
            self.behind.noted(rows)

    def new_key(self) -> int:
        return self._behind().new_key()

    def stored(self) -> history.HistoryStore:
        return self._behind().stored()

    def limits(self) -> tuple[LimitTable, int]:
        """Those of the main process's history, where that is on this machine."""
        if self.behind is not None:
            return self.behind.limits()
        self.check_is_near()
        home = str(settings.current().home)
        with self._opening_limits:
            if home not in self._limits:
                self._limits[home] = history.limits_nearby()
            return self._limits[home]

    def durable(self) -> history.Durable:
        return self._behind().durable()

    def _behind(self) -> history.Recorder:
        if self.behind is None:
            raise HistoryError("A worker process has no history; its flow's process has.")
        return self.behind

    def check_is_near(self) -> None:
        if self.behind is None and self.origin.rpartition(":")[0] != os.uname().nodename:
            raise HistoryError(f"The history is that of process {self.origin}, on another machine.")

    def has_unanswered(self) -> bool:
        return False

    def flush(self) -> None:
        """Wait for nothing of an attempt: what a worker collects becomes durable in the main process."""
        if self.behind is not None:
            self.behind.flush()

    def close(self) -> None:
        if self.behind is not None:
            self.behind.close()


def _plain(state: State) -> tuple[Any, ...]:
    details = state.state_details.fields() if state.type in _WITH_DETAILS else None
    return (state.type.value, state.name, state.message, state.timestamp_us, details)


_WITH_DETAILS = frozenset({SCHEDULED, PAUSED})


def _record_anew() -> None:
    # A child of a worker is no part of the attempt: what runs there is recorded in a history of its own opening.
    recorder = history.install(None)
    if not isinstance(recorder, WorkerRecorder):
        history.install(recorder)


os.register_at_fork(after_in_child=_record_anew)
