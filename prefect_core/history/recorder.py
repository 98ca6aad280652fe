"""The recorder: takes events from any thread without waiting, and has one thread write them in groups.

An event is a small tuple at the end of a deque. The caller rings only where the writer needs it: while the writer sleeps for want of
events, while it gathers and enough have come, or when the deque is full. All three are one comparison with `_ring_at`, which the writer
sets as it goes:

    asleep      0           the first event rings: after 50 ms without one, since waking up costs a caller who comes at once
    gathering   ENOUGH      until that many events are there, a flush asks, or 50 ms have passed
    writing     EASE        then each caller pauses a moment for every further event, which gives the writer the interpreter;
                            past the bound callers are held back, with one warning, until the writer took the queue

Without that pause many busy threads would leave the writer a small share of the interpreter, and seconds of work could wait unwritten.

A thread that flushes writes itself, where the writer is not at it (`lead`): that saves two changes of threads, which cost as much as a
small commit does. It needs no patience for that; where a write would, the writer has it.

A write that fails is tried again for some seconds, then given up (see `persistent`), and the next `flush` raises.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Any, cast

from prefect_core import waiting
from prefect_core.errors import HistoryError, LeaseLost
from prefect_core.history.fold import Fold
from prefect_core.history.parameters import parameters_text
from prefect_core.history.persistent import PersistentWriter
from prefect_core.history.plain import CREATED, ENTERED, LENGTH, RAN, RENAMED, Event, is_completed_as_usual
from prefect_core.history.recording import Durable, enter_both
from prefect_core.runs import FlowRun, Run, TaskRun
from prefect_core.state_kinds import PAUSED, SCHEDULED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefect_core.history.batch import Batch, Row
    from prefect_core.history.limits import LimitTable
    from prefect_core.history.store import HistoryStore, HistoryWriter
    from prefect_core.states import State

ENOUGH = 1000
"""Events that are worth a transaction without waiting for more."""
GATHER_SECONDS = 0.05
EASE = 10_000
"""Events that may wait before those who add more pause for `PAUSE_SECONDS` each."""
PAUSE_SECONDS = 0.0005
MOST = 20_000
"""Events of one transaction at most."""
CLOSE_SECONDS = 30.0
"""How long closing waits for the last rows, at the end of the process too."""
_LOGGED, _FLUSH, _NOTED = 10, 11, 12
_log = logging.getLogger("prefect_core.history")


class _Flush:
    """Somebody who waits until what came before is durable."""

    __slots__ = ("error", "latch")

    def __init__(self) -> None:
        # A plain lock, since a signal may interrupt this wait: inside an event it could leave the event's own lock behind.
        self.latch = threading.Lock()
        self.latch.acquire()
        self.error: HistoryError | None = None

    def answer(self, failure: HistoryError | None) -> None:
        self.error = failure
        self.latch.release()


class StoreRecorder:
    """A `Recorder` that writes to a store, which it owns."""

    owns_runs = True

    def __init__(
        self,
        store: HistoryWriter,
        queue_bound: int = 100_000,
        retry_seconds: float = 5.0,
        reader: Callable[[], HistoryStore] | None = None,
    ) -> None:
        """`reader` opens the same history for reading, when that is first asked for; without it, `store` is a whole `HistoryStore`."""
        self.store = store
        self._open_reader = reader or (lambda: cast("HistoryStore", store))
        self._bound = max(queue_bound, 1)
        self._ease = min(self._bound, EASE)
        first = _first_key(store)
        self.process = first >> 32
        self._stored: HistoryStore | None = None
        self._opening = threading.Lock()
        self._run_keys = itertools.count(first + 1)
        self._log_keys = itertools.count(first + 1)
        self._queue: deque[Event] = deque()
        self._ring_at = 0
        self._bell = threading.Event()
        self._room = threading.Event()
        self._hurry = False
        self._turn = threading.Lock()
        """Held by who writes: the writer, or a thread that would only wait for it."""
        self._holder = 0
        self._taken: list[Event] = []
        self._left: tuple[Batch, list[_Flush | Durable]] | None = None
        """What a turn could not bring to an end."""
        self._closing = False
        self._told_full = False
        self._fold = Fold(store.recall, self.process)
        self._writing = PersistentWriter(store, retry_seconds)
        self.on_lease_lost: Callable[[LeaseLost], object] | None = None
        """Called once, on whatever thread finds that others took this process for dead; it must return at once."""
        self.on_close: Callable[[StoreRecorder], object] | None = None
        """Called before it is closed."""
        self._writer = threading.Thread(target=self._write_all, name="prefect_core-history", daemon=True)
        self._writer.start()

    def created(self, run: Run) -> None:
        run.key = next(self._run_keys)
        state = run.state
        kind = state.type
        parameters = parameters_text(run.parameters) if type(run) is FlowRun else None
        details = _details(state) if kind is SCHEDULED else None
        at_us, attempt, run_count = state.timestamp_us, run.attempt, run.run_count
        event = (CREATED, run, kind, state.name, state.message, at_us, attempt, run_count, details, parameters)
        self._queue.append(event)
        if len(self._queue) > self._ring_at:
            self._ring()

    def entered(self, run: Run, state: State) -> None:
        kind = state.type
        details = _details(state) if kind is SCHEDULED or kind is PAUSED else None
        worker = run.worker if type(run) is TaskRun else ""
        at_us, attempt, run_count = state.timestamp_us, run.attempt, run.run_count
        event = (ENTERED, run, kind, state.name, state.message, at_us, attempt, run_count, details, worker)
        if state.kept is not None:
            # In one event, and so in one transaction with the state that announces it.
            event = (*event, state.kept.rows(run.key, attempt))  # type: ignore[assignment]  # longer by this
        self._queue.append(event)
        if len(self._queue) > self._ring_at:
            self._ring()

    def ran(self, run: TaskRun, started_us: int, state: State) -> None:
        if is_completed_as_usual(state) and run.attempt == run.run_count == 1:
            self._queue.append((RAN, run, started_us, state.timestamp_us, run.worker))
            if len(self._queue) > self._ring_at:
                self._ring()
        else:
            enter_both(self, run, started_us, state)

    def renamed(self, run: Run) -> None:
        parameters = parameters_text(run.parameters) if type(run) is FlowRun else None
        self._queue.append((RENAMED, run, parameters))
        if len(self._queue) > self._ring_at:
            self._ring()

    def logged(self, run: Run | None, level: int, logger: str, message: str, timestamp_us: int) -> None:
        key = run.key or None if run is not None else None
        self._queue.append((_LOGGED, (next(self._log_keys), key, level, logger, message, timestamp_us)))
        if len(self._queue) > self._ring_at:
            self._ring()

    def noted(self, rows: Sequence[tuple[str, Row]]) -> None:
        self._queue.append((_NOTED, rows))
        if len(self._queue) > self._ring_at:
            self._ring()

    def new_key(self) -> int:
        return next(self._run_keys)

    def stored(self) -> HistoryStore:
        if self._stored is None:
            with self._opening:
                if self._stored is None:
                    self._stored = self._open_reader()
        return self._stored

    def limits(self) -> tuple[LimitTable, int]:
        return self.stored().limits(), self.process

    def durable(self) -> Durable:
        return Durable(self)

    def flush(self) -> None:
        if self._holder == threading.get_ident():
            # A log handler of the user's may ask for it on hearing a warning of ours; waiting here would never end.
            return
        waiter = _Flush()
        self.lead(waiter)
        while not waiting.acquire(waiter.latch, 1.0):
            if not self._writer.is_alive() and waiter.latch.locked():
                raise HistoryError("The history's writer has stopped; what was recorded last is not written.")
        if waiter.error is not None:
            raise waiter.error

    def ask_for(self, waiter: _Flush | Durable) -> None:
        """Have `waiter` answered as soon as all that was recorded before is durable, or could not be made so."""
        self._queue.append((_FLUSH, waiter))
        self._hurry = True
        self._bell.set()
        if not self._writer.is_alive():
            waiter.answer(HistoryError("The history's writer has stopped; what was recorded last is not written."))

    def lead(self, waiter: _Flush | Durable) -> None:
        """Have `waiter` answered like `ask_for`, by writing on this thread, which would only wait, if nobody else is at it."""
        if self._closing or len(self._queue) > ENOUGH or not self._turn.acquire(blocking=False):
            self.ask_for(waiter)
            return
        self._holder = threading.get_ident()
        try:
            if self._write_next(self._writing.write_at_once):
                waiter.answer(self._writing.take_failure())
            elif self._left is not None:
                self._left[1].append(waiter)
            else:
                self.ask_for(waiter)
        finally:
            self._holder = 0
            self._turn.release()
            if self._left is not None:
                self._hurry = True
                self._bell.set()

    def check_is_near(self) -> None:
        """Do nothing: its history is here."""

    def has_unanswered(self) -> bool:
        return self.store.has_unanswered()

    def close(self) -> None:
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close(self)
        self._closing = True
        self._hurry = True
        self._bell.set()
        self._writer.join(CLOSE_SECONDS)
        if self._writer.is_alive():
            _log.warning(
                "The history could not be written within %d s; the last %d events are lost.",
                CLOSE_SECONDS,
                len(self._queue),
            )
            return
        if self._stored is not None:
            self._stored.close()
        self.store.close()

    def _ring(self) -> None:
        # Others need not ring as well; the writer sets its own mark when it goes on.
        self._ring_at = self._ease
        self._bell.set()
        if len(self._queue) > self._ease and self._holder != threading.get_ident():
            if len(self._queue) > self._bound:
                self._hold_back()
            else:
                time.sleep(PAUSE_SECONDS)

    def _hold_back(self) -> None:
        if not self._told_full:
            self._told_full = True
            _log.warning(
                "%d events wait to be written to the history; the program is held back until there is room "
                "(PREFECT_CORE_RECORDER_QUEUE sets the bound).",
                self._bound,
            )
        while len(self._queue) > self._bound and self._writer.is_alive():
            self._room.clear()
            self._room.wait(0.1)

    def _write_all(self) -> None:
        while True:
            self._await_events()
            with self._turn:
                self._holder = threading.get_ident()
                is_last = self._closing and not self._queue and self._left is None
                self._write_next(self._writing.write)
                self._writing.tidy()
                if is_last:
                    self._writing.mark_incomplete()
                    self._writing.let_go(has_open_runs=self._fold.unfinished > 0)
                self._holder = 0
            if is_last:
                return

    def _write_next(self, write: Callable[[Batch], bool]) -> bool:
        """Write what an earlier turn has left, or else what the queue holds; for who has the turn. False if it was not written."""
        waiters: list[_Flush | Durable] = []
        is_written = False
        try:
            if self._left is None:
                self._left = self._take()
            batch, waiters = self._left
            is_written = write(batch)
            if is_written:
                self._fold.committed()
            elif write == self._writing.write_at_once:
                # It is the writer's now, and so is a commit of which nobody knows what came.
                return False
            else:
                self._fold.given_up()
        except Exception as error:
            # A mistake of ours must neither end the writer nor pass in silence.
            reason = f"The history could not be written: {type(error).__name__}: {error}."
            self._writing.give_up(len(self._taken), HistoryError(reason))
            self._fold.given_up()
        # Neither events nor rows are kept while nobody writes.
        self._left = None
        self._taken.clear()
        self._answer(waiters)
        if self._writing.lost is not None:
            self._tell_lost(self._writing.lost)
        return is_written

    def lose_lease(self) -> None:
        """Write nothing more: others took this process for dead."""
        if self._writing.lost is None:
            self._writing.lost = LeaseLost("This process was declared dead by another one, which ended its runs.")
        self._tell_lost(self._writing.lost)

    def _tell_lost(self, lost: LeaseLost) -> None:
        tell, self.on_lease_lost = self.on_lease_lost, None
        if tell is not None:
            tell(lost)

    def _take(self) -> tuple[Batch, list[_Flush | Durable]]:
        # Taken at once and kept, so that none is lost where an interrupt gets through to who leads.
        self._taken.extend(starmap(self._queue.popleft, repeat((), min(len(self._queue), MOST))))
        # What is left has waited long enough, and a flush may stand in it.
        self._hurry = bool(self._queue)
        self._room.set()
        waiters: list[_Flush | Durable] = []
        return self._batch(self._taken, waiters), waiters

    def _await_events(self) -> None:
        queue, bell = self._queue, self._bell
        self._gather()
        if not queue:
            bell.clear()
            self._ring_at = 0
            if not queue and self._left is None and not self._closing:
                bell.wait()
            self._gather()
        self._ring_at = self._ease

    def _gather(self) -> None:
        """Wait until there is enough to write, somebody asks for it, or it is time."""
        bell = self._bell
        bell.clear()
        self._ring_at = ENOUGH
        if len(self._queue) < ENOUGH and self._left is None and not self._hurry:
            bell.wait(GATHER_SECONDS)

    def _batch(self, events: list[Event], waiters: list[_Flush | Durable]) -> Batch:
        moves: list[Event] = []
        logs: list[Row] = []
        of_results: list[tuple[str, Row]] = []
        for event in events:
            kind = event[0]
            if kind <= RAN:
                moves.append(event[:LENGTH])
                if len(event) > LENGTH:
                    of_results += event[LENGTH]
            elif kind == _LOGGED:
                logs.append(event[1])
            elif kind == _NOTED:
                of_results += event[1]
            else:
                waiters.append(event[1])
        batch = self._fold.fold(moves, logs)
        for table, row in of_results:
            batch.of_results.setdefault(table, []).append(row)
        return batch

    def _answer(self, waiters: list[_Flush | Durable]) -> None:
        if not waiters:
            return
        failure = self._writing.take_failure()
        for waiter in waiters:
            waiter.answer(failure)


def _first_key(store: HistoryWriter) -> int:
    try:
        return store.next_key()
    except BaseException:
        store.close()
        raise


def _details(state: State) -> str | None:
    fields: dict[str, Any] = state.state_details.fields()
    fields.pop("flow_run_id", None)
    fields.pop("task_run_id", None)
    return parameters_text(fields) if fields else None
