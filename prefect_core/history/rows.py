"""What readers of the history get: frozen records, one class per table, with identifiers and moments also in the form people use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_core import clock, ids
from prefect_core.history.batch import Row
from prefect_core.history.plain import inputs_from

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else clock.to_datetime(microseconds)


@dataclass(frozen=True, slots=True)
class _RunRow:
    """What flow runs and task runs have in common."""

    key: int
    uid: int
    name: str
    tags: tuple[str, ...]
    created_us: int
    started_us: int | None
    ended_us: int | None
    run_count: int
    state_type: str
    state_name: str
    state_message: str | None
    state_us: int

    @property
    def id(self) -> UUID:
        return ids.as_uuid(self.uid)

    @property
    def created(self) -> datetime:
        return clock.to_datetime(self.created_us)

    @property
    def started(self) -> datetime | None:
        return _moment(self.started_us)

    @property
    def ended(self) -> datetime | None:
        return _moment(self.ended_us)

    @property
    def state_timestamp(self) -> datetime:
        return clock.to_datetime(self.state_us)

    @property
    def duration_seconds(self) -> float | None:
        """From first start to end; None while one of them is missing."""
        if self.started_us is None or self.ended_us is None:
            return None
        return (self.ended_us - self.started_us) / 1_000_000

    @property
    def process(self) -> int:
        """Number of the process that recorded it."""
        return self.key >> 32


@dataclass(frozen=True, slots=True)
class FlowRunRow(_RunRow):
    """One flow run."""

    flow_name: str
    flow_version: str | None
    entrypoint: str | None
    runner: str
    parameters_text: str
    parent_task_run: int | None
    parent_flow_run: int | None

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters as JSON holds them; what JSON can't hold is its text."""
        decoded: dict[str, Any] = json.loads(self.parameters_text)
        return decoded


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a task run: the parameter (or "wait_for") and the run it comes from."""

    parameter: str
    kind: str
    uid: int

    @property
    def id(self) -> UUID:
        return ids.as_uuid(self.uid)


@dataclass(frozen=True, slots=True)
class TaskRunRow(_RunRow):
    """One task run."""

    task_name: str
    task_key: str
    index: int
    flow_run: int | None
    parent_task_run: int | None
    child_flow_run: int | None
    inputs: tuple[Input, ...]
    worker: str


@dataclass(frozen=True, slots=True)
class StateRow:
    """One state of a run; `seq` counts from 0 for each run."""

    run: int
    seq: int
    attempt: int
    type: str
    name: str
    message: str | None
    timestamp_us: int
    details_text: str | None

    @property
    def timestamp(self) -> datetime:
        return clock.to_datetime(self.timestamp_us)

    @property
    def details(self) -> dict[str, Any]:
        """What else is known of the state, as JSON holds it."""
        decoded: dict[str, Any] = json.loads(self.details_text or "{}")
        return decoded


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One try of a run: open while `ended_us` is None, and then in the state that ended it."""

    run: int
    attempt: int
    started_us: int
    ended_us: int | None
    state_type: str
    state_name: str
    worker: str

    @property
    def started(self) -> datetime:
        return clock.to_datetime(self.started_us)

    @property
    def ended(self) -> datetime | None:
        return _moment(self.ended_us)


@dataclass(frozen=True, slots=True)
class LogRow:
    """One log record; `run` is the key of a flow run or a task run."""

    key: int
    run: int | None
    level: int
    logger: str
    message: str
    timestamp_us: int

    @property
    def timestamp(self) -> datetime:
        return clock.to_datetime(self.timestamp_us)


@dataclass(frozen=True, slots=True)
class FlowRow:
    """A flow that ran, with its newest run."""

    name: str
    runs: int
    last_run: str
    last_created_us: int
    last_state_name: str
    last_state_type: str

    @property
    def last_created(self) -> datetime:
        return clock.to_datetime(self.last_created_us)


def flow_run_row(row: Row) -> FlowRunRow:
    """Make a record from a row in the columns `batch.FLOW_RUN`."""
    return FlowRunRow(
        key=row[0],
        uid=_uid(row[1]),
        name=row[2],
        flow_name=row[3],
        flow_version=row[4],
        entrypoint=row[5],
        runner=row[6],
        parameters_text=row[7],
        tags=_texts(row[8]),
        parent_task_run=row[9],
        parent_flow_run=row[10],
        created_us=row[11],
        started_us=row[12],
        ended_us=row[13],
        run_count=row[14],
        state_type=row[15],
        state_name=row[16],
        state_message=row[17],
        state_us=row[18],
    )


def task_run_row(row: Row, child_flow_run: int | None) -> TaskRunRow:
    """Make a record from a row in the columns `batch.TASK_RUN` and the key of the flow run that the task run stands for."""
    return TaskRunRow(
        key=row[0],
        uid=_uid(row[1]),
        flow_run=row[2],
        parent_task_run=row[3],
        child_flow_run=child_flow_run,
        task_name=row[4],
        task_key=row[5],
        index=row[6],
        name=row[7] or f"{row[4]}-{row[6]}",
        tags=_texts(row[8]),
        inputs=inputs_of(row[9]),
        created_us=row[10],
        started_us=row[11],
        ended_us=row[12],
        run_count=row[13],
        state_type=row[14],
        state_name=row[15],
        state_message=row[16],
        state_us=row[17],
        worker=row[18],
    )


def _uid(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _texts(raw: str | None) -> tuple[str, ...]:
    return tuple(json.loads(raw)) if raw else ()


def inputs_of(raw: str | None) -> tuple[Input, ...]:
    """Return the inputs that the history holds as text."""
    return tuple(Input(*one) for one in inputs_from(raw))
