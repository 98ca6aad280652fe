"""How rows of the history in memory look once their process was found dead."""

from __future__ import annotations

from typing import Any

from prefect_core import clock
from prefect_core.history.batch import TASK_RUN, Row
from prefect_core.history.requests import LOST
from prefect_core.history.rows import FlowRunRow, StateRow, TaskRunRow
from prefect_core.state_kinds import CANCELLED, CANCELLING, CRASHED, DEFAULT_NAMES, FAILED, FINAL, StateType


def is_open(row: FlowRunRow | TaskRunRow) -> bool:
    """Tell whether a run has not ended, and may still."""
    return StateType(row.state_type) not in FINAL and row.state_name != "NotReady"


def lost_state(
    row: FlowRunRow | TaskRunRow, last: StateRow, message: str = LOST, *, is_cancelled: bool = False
) -> StateRow:
    """Return the state that ends an open run."""
    kind = CANCELLED if is_cancelled or row.state_type == CANCELLING.value else CRASHED
    at_us = max(clock.now_us(), last.timestamp_us + 1)
    return StateRow(row.key, last.seq + 1, last.attempt, kind.value, DEFAULT_NAMES[kind], message, at_us, None)


def failed_state(last: StateRow, message: str) -> StateRow:
    """Return the state that fails a run after its last one."""
    at_us = max(clock.now_us(), last.timestamp_us + 1)
    return StateRow(last.run, last.seq + 1, last.attempt, FAILED.value, DEFAULT_NAMES[FAILED], message, at_us, None)


def course_of(state: StateRow) -> dict[str, Any]:
    """Return what a run's row says of its last state."""
    return {
        "state_type": state.type,
        "state_name": state.name,
        "state_message": state.message,
        "state_us": state.timestamp_us,
        "ended_us": state.timestamp_us,
    }


def ended_row(row: Row, state: StateRow) -> Row:
    """Return the row of a task run, in the columns `TASK_RUN`, with its last state."""
    changed = course_of(state)
    return tuple([changed.get(column, cell) for column, cell in zip(TASK_RUN, row, strict=True)])
