"""What a run is in: states, their names, and what a final one gives.

A run moves through *states*. A state has a kind (`StateType`), a name (by default its kind's, else any name, as `Skipped`), a
message for people, the moment it began, and, when the run has ended, `data`: the value it returned or the exception that ended it.
States never change once made; a run that moves on gets a new one. Which kind may follow which is the table in `state_kinds`.

A value that is kept elsewhere stands in `data` as an object with a `load()` of its own (`Stored`), so that this module knows nothing
of storage.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from prefect_core import clock, ids
from prefect_core.errors import CancelledRun, CrashedRun, FailedRun, MissingResult, PausedRun, UnfinishedRun
from prefect_core.state_details import StateDetails
from prefect_core.state_kinds import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    CRASHED,
    DEFAULT_NAMES,
    FAILED,
    FINAL,
    PAUSED,
    PENDING,
    RUNNING,
    SCHEDULED,
    UNSUCCESSFUL,
    StateType,
)
from prefect_core.stored import Stored

if TYPE_CHECKING:
    from uuid import UUID

    from prefect_core.stored import Kept

__all__ = [
    "AwaitingRetry",
    "Cancelled",
    "Cancelling",
    "Completed",
    "Crashed",
    "Failed",
    "Late",
    "Paused",
    "Pending",
    "Retrying",
    "Running",
    "Scheduled",
    "State",
    "StateDetails",
    "StateType",
    "Stored",
    "Suspended",
    "exception_of",
    "raise_state_exception",
]


class State:
    """One state of a run. Made by hand (`Completed(message=...)`) it can be returned from a flow or task to decide its end."""

    __slots__ = ("_details", "_id", "data", "flow_uid", "kept", "message", "name", "task_uid", "timestamp_us", "type")

    def __init__(
        self,
        type: StateType,
        name: str | None = None,
        message: str | None = None,
        data: Any = None,
        timestamp: datetime | None = None,
        state_details: StateDetails | None = None,
    ) -> None:
        self.type = type
        self.name = name or DEFAULT_NAMES[type]
        self.message = message
        self.data = data
        self.timestamp_us = clock.now_us() if timestamp is None else clock.from_datetime(timestamp)
        self.flow_uid = 0
        self.task_uid = 0
        self.kept: Kept | None = None
        self._details = state_details
        self._id = 0

    @property
    def id(self) -> UUID:
        """The state's own identifier, made when first asked for."""
        if not self._id:
            self._id = ids.new_id(self.timestamp_us)
        return ids.as_uuid(self._id)

    @property
    def timestamp(self) -> datetime:
        """When the run entered this state, UTC."""
        return clock.to_datetime(self.timestamp_us)

    @property
    def state_details(self) -> StateDetails:
        """Identifiers of the run and what else is known of this state."""
        details = self._details
        if details is None:
            details = self._details = StateDetails()
        if self.flow_uid and details.flow_run_id is None:
            details.flow_run_id = ids.as_uuid(self.flow_uid)
        if self.task_uid and details.task_run_id is None:
            details.task_run_id = ids.as_uuid(self.task_uid)
        return details

    @property
    def belongs_to_run(self) -> bool:
        """False for a state made by hand that no run has taken yet."""
        details = self._details
        return bool(self.flow_uid or self.task_uid) or (
            details is not None and (details.flow_run_id is not None or details.task_run_id is not None)
        )

    def is_scheduled(self) -> bool:
        return self.type is SCHEDULED

    def is_pending(self) -> bool:
        return self.type is PENDING

    def is_running(self) -> bool:
        return self.type is RUNNING

    def is_completed(self) -> bool:
        return self.type is COMPLETED

    def is_failed(self) -> bool:
        return self.type is FAILED

    def is_crashed(self) -> bool:
        return self.type is CRASHED

    def is_cancelled(self) -> bool:
        return self.type is CANCELLED

    def is_cancelling(self) -> bool:
        return self.type is CANCELLING

    def is_paused(self) -> bool:
        return self.type is PAUSED

    def is_final(self) -> bool:
        return self.type in FINAL

    @property
    def lies_elsewhere(self) -> bool:
        """Whether `result` blocks for as long as it takes to fetch the value or the exception."""
        data = self.data
        return data.lies_elsewhere if isinstance(data, State) else isinstance(data, Stored)

    def result(self, raise_on_failure: bool = True) -> Any:
        """Return the run's value, or raise what ended it.

        With `raise_on_failure=False` the exception of a failed, crashed or cancelled run is returned instead. Raises `PausedRun`,
        `UnfinishedRun` or `MissingResult` when there is nothing to return.
        """
        if self.type is PAUSED:
            raise PausedRun("Run is paused, its result is not available.", state=self)
        if self.type not in FINAL:
            raise _unfinished(self)
        if self.type is COMPLETED:
            return self._value()
        if raise_on_failure:
            raise exception_of(self)
        return exception_of(self) if self.data is None else self._value()

    def _value(self) -> Any:
        data = self.data
        if data is NO_DATA:
            raise MissingResult(
                "State data is missing. The value was not stored, and the run ended in another process; "
                "set persist_result=True on its task or flow to keep values."
            )
        if isinstance(data, State):
            return data.result()
        if type(data) in _PLAIN:
            return data
        return data.load() if isinstance(data, Stored) else data

    def copy(self, **changes: Any) -> State:
        """Return a state with some constructor arguments changed, begun now unless `timestamp` is given, of no run."""
        fields: dict[str, Any] = {"type": self.type, "name": self.name, "message": self.message, "data": self.data}
        if self._details is not None:
            kept = self._details.fields().items()
            fields["state_details"] = StateDetails(
                **{name: value for name, value in kept if not name.endswith("_run_id")}
            )
        return State(**(fields | changes))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        return self._identity() == other._identity() and (self.data is other.data or bool(self.data == other.data))

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        return (self.type, self.name, self.message, self.timestamp_us, self.flow_uid, self.task_uid)

    def __str__(self) -> str:
        parts = [repr(self.message)] if self.message else []
        if self.name.lower() != self.type.value.lower():
            parts.append(f"type={self.type.value}")
        return f"{self.name}({', '.join(parts)})"

    def __repr__(self) -> str:
        parts = [f"message={self.message!r}", f"type={self.type.value}", f"result={self.data!r}"]
        if self.task_uid:
            parts.append(f"task_run_id={ids.as_text(self.task_uid)}")
        elif self.flow_uid:
            parts.append(f"flow_run_id={ids.as_text(self.flow_uid)}")
        return f"{self.name}({', '.join(parts)})"

    def _repr_html_(self) -> str:
        from html import escape  # only notebooks ask

        message = f" <span>{escape(self.message)}</span>" if self.message else ""
        return f"<code title='{self.type.value} since {self.timestamp.isoformat()}'>{escape(self.name)}</code>{message}"


class _NoData:
    """Stands for a value that was not kept, where None is a value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<not kept>"

    def __reduce__(self) -> str:
        return "NO_DATA"


NO_DATA = _NoData()
_PLAIN: frozenset[type] = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set})


def Scheduled(scheduled_time: datetime | None = None, **fields: Any) -> State:
    """Make a state of a run that is to start at `scheduled_time`, by default now."""
    details: StateDetails = fields.setdefault("state_details", StateDetails())
    if scheduled_time is not None and details.scheduled_time is not None:
        raise ValueError("An extra scheduled_time was provided in state_details")
    details.scheduled_time = scheduled_time or details.scheduled_time or clock.to_datetime(clock.now_us())
    return State(SCHEDULED, **fields)


def Late(scheduled_time: datetime | None = None, **fields: Any) -> State:
    """Make a state of a run whose start is overdue."""
    return Scheduled(scheduled_time, **({"name": "Late"} | fields))


def AwaitingRetry(scheduled_time: datetime | None = None, **fields: Any) -> State:
    """Make a state of a run that failed and will be tried again at `scheduled_time`."""
    return Scheduled(scheduled_time, **({"name": "AwaitingRetry"} | fields))


def Pending(**fields: Any) -> State:
    """Make a state of a run that has not started."""
    return State(PENDING, **fields)


def Running(**fields: Any) -> State:
    """Make a state of a run whose body runs."""
    return State(RUNNING, **fields)


def Retrying(**fields: Any) -> State:
    """Make a state of a run whose body runs again."""
    fields.setdefault("name", "Retrying")
    return State(RUNNING, **fields)


def Completed(**fields: Any) -> State:
    """Make a state of a run that ended well."""
    return State(COMPLETED, **fields)


def Failed(**fields: Any) -> State:
    """Make a state of a run that raised."""
    return State(FAILED, **fields)


def Crashed(**fields: Any) -> State:
    """Make a state of a run that something outside of its function ended."""
    return State(CRASHED, **fields)


def Cancelling(**fields: Any) -> State:
    """Make a state of a run that was asked to stop."""
    return State(CANCELLING, **fields)


def Cancelled(**fields: Any) -> State:
    """Make a state of a run that was stopped on request."""
    return State(CANCELLED, **fields)


def Paused(
    timeout_seconds: float | None = None,
    pause_expiration_time: datetime | None = None,
    reschedule: bool = False,
    pause_key: str | None = None,
    **fields: Any,
) -> State:
    """Make a state of a run that waits to be resumed, at most for `timeout_seconds` or until `pause_expiration_time`."""
    if timeout_seconds is not None and pause_expiration_time is not None:
        raise ValueError("Cannot supply both a pause_expiration_time and timeout_seconds")
    details: StateDetails = fields.setdefault("state_details", StateDetails())
    if details.pause_timeout is not None and (timeout_seconds is not None or pause_expiration_time is not None):
        raise ValueError("An extra pause timeout was provided in state_details")
    if timeout_seconds is not None:
        pause_expiration_time = clock.to_datetime(clock.now_us()) + timedelta(seconds=timeout_seconds)
    details.pause_timeout = details.pause_timeout or pause_expiration_time
    details.pause_reschedule = reschedule
    details.pause_key = pause_key
    return State(PAUSED, **fields)


def Suspended(
    timeout_seconds: float | None = None,
    pause_expiration_time: datetime | None = None,
    pause_key: str | None = None,
    **fields: Any,
) -> State:
    """Make a state of a run whose process ended and that starts again from the top when resumed."""
    fields = {"name": "Suspended"} | fields
    return Paused(timeout_seconds, pause_expiration_time, reschedule=True, pause_key=pause_key, **fields)


_WITHOUT_EXCEPTION: dict[StateType, tuple[type[Exception], str]] = {
    FAILED: (FailedRun, "Run failed."),
    CRASHED: (CrashedRun, "Run crashed."),
    CANCELLED: (CancelledRun, "Run cancelled."),
}


def exception_of(state: State) -> BaseException:
    """Return the exception that a failed, crashed or cancelled state stands for.

    A state that holds states gives the first unsuccessful one's. Raises `ValueError` for any other kind of state and `TypeError` for
    data that is no exception.
    """
    if state.type not in UNSUCCESSFUL:
        raise ValueError(f"Expected failed or crashed state got {state!r}.")
    wrapper, default = _WITHOUT_EXCEPTION[state.type]
    data = state.data.load() if isinstance(state.data, Stored) else state.data
    if isinstance(data, BaseException):
        return data
    if isinstance(data, str):
        return wrapper(data)
    if data is None or data is NO_DATA:
        return wrapper(state.message or default)
    if isinstance(data, State):
        return _first_exception([data])
    if is_collection_of_states(data):
        return _first_exception(data)
    raise TypeError(
        f"Unexpected result for failed state: {data!r} —— {type(data).__name__} cannot be resolved into an exception"
    )


def _first_exception(states: Iterable[State]) -> BaseException:
    for state in states:
        if state.type in UNSUCCESSFUL:
            return exception_of(state)
    unfinished = next((state for state in states if state.type not in FINAL), None)
    if unfinished is not None:
        return _unfinished(unfinished)
    raise ValueError("Failed state result was an iterable of states but none were failed.")


def _unfinished(state: State) -> UnfinishedRun:
    reason = f" {state.name}: {state.message}" if state.message else ""
    return UnfinishedRun(f"Run is in {state.type.value} state, its result is not available.{reason}")


def raise_state_exception(state: State) -> None:
    """Raise the exception of an unsuccessful state; do nothing for another."""
    if state.type in UNSUCCESSFUL:
        raise exception_of(state)


def is_collection_of_states(value: object) -> bool:
    """Tell whether `value` is a non-empty list, tuple or set that holds nothing but states."""
    return (
        isinstance(value, list | tuple | set | frozenset) and bool(value) and all(isinstance(v, State) for v in value)
    )
