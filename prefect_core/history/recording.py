"""What the engine says to a history: the `Recorder`, and `Durable`, which tells when what was said is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from prefect_core.state_kinds import RUNNING
from prefect_core.states import State
from prefect_core.waiting import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefect_core.errors import HistoryError
    from prefect_core.history.batch import Row
    from prefect_core.history.limits import LimitTable
    from prefect_core.history.store import HistoryStore
    from prefect_core.runs import Run, TaskRun


class Recorder(Protocol):
    """Where the engine says what happened. Every call but `flush` and `close` returns at once, from any thread."""

    @property
    def owns_runs(self) -> bool:
        """Whether the runs that it records are this process's, which hears what is asked of them."""
        ...

    def created(self, run: Run) -> None:
        """Record a new run in its first state, and give it its key."""
        ...

    def entered(self, run: Run, state: State) -> None:
        """Record that a run moved to `state`, which it already shows together with its attempt and counts."""
        ...

    def ran(self, run: TaskRun, started_us: int, state: State) -> None:
        """Record that a run moved to Running at `started_us`, in wall microseconds, and since then to `state`, which it already shows."""
        ...

    def renamed(self, run: Run) -> None:
        """Record that a run has another name now, or a flow run other parameters."""
        ...

    def logged(self, run: Run | None, level: int, logger: str, message: str, timestamp_us: int) -> None:
        """Record a log record, of a run or of none."""
        ...

    def noted(self, rows: Sequence[tuple[str, Row]]) -> None:
        """Record what is known of results, pauses or ends: tables of `batch.NOTED`, with a row each, all in one transaction."""
        ...

    def new_key(self) -> int:
        """Return a key that no run or result has, in any process."""
        ...

    def stored(self) -> HistoryStore:
        """Return the history for reading; what was recorded last may be missing until a flush."""
        ...

    def limits(self) -> tuple[LimitTable, int]:
        """Return the concurrency limits, and the number that this process has there. Raises `HistoryError` where they are out of reach."""
        ...

    @property
    def process(self) -> int:
        """Number of this process in the history."""
        ...

    def check_is_near(self) -> None:
        """Raise `HistoryError` if the history that this process belongs to is that of another machine."""
        ...

    def has_unanswered(self) -> bool:
        """Tell whether somebody asks for something in this history, and has no answer yet; cheap to ask often. Raises `HistoryError`."""
        ...

    def flush(self) -> None:
        """Block until all that was recorded before is durable. Raises `HistoryError` if it could not be made so."""
        ...

    def durable(self) -> Durable:
        """Return what fires when all that was recorded before is durable, or could not be made so; once somebody waits for it."""
        ...

    def close(self) -> None:
        """Write what is left and stop; never raises, never waits for ever."""
        ...


def enter_both(recorder: Recorder, run: TaskRun, started_us: int, state: State) -> None:
    """Record what `Recorder.ran` does as two moves: for recorders that know no shorter way."""
    running = State(RUNNING)
    running.timestamp_us = started_us
    running.task_uid, running.flow_uid = state.task_uid, state.flow_uid
    recorder.entered(run, running)
    recorder.entered(run, state)


class Led(Protocol):
    """A recorder that can be asked for an answer, or led by who would wait for one."""

    def ask_for(self, waiter: Durable) -> None: ...
    def lead(self, waiter: Durable) -> None: ...


class Durable(Signal):
    """Fires when what was recorded before somebody waits for it is committed; `error` then says if that failed.

    It fires on the thread that wrote, which must not be kept: callbacks do no more than wake somebody else.
    """

    __slots__ = ("_recorder", "error")

    is_hurried = True

    def __init__(self, recorder: Led | None) -> None:
        """`recorder` is asked for it once somebody waits; None if it is answered in any case."""
        super().__init__()
        self._recorder = recorder
        self.error: HistoryError | None = None

    def hasten(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.lead(self)

    def add_done_callback(self, function: Callable[[Any], object]) -> None:
        super().add_done_callback(function)
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.ask_for(self)

    def answer(self, failure: HistoryError | None) -> None:
        self.error = failure
        self.fire()
