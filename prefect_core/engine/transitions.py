"""The one way in which a run changes its state, and the words for how attempts end.

Only `task_run` and `flow_run` call `enter`. A change is checked against the table of kinds, made on the record, and handed to the
recorder, under the run's lock, so that whoever forces a run to its end (Ctrl-C) and the run's own lifecycle can't both have the last word.
"""

from __future__ import annotations

from prefect_core import history
from prefect_core.crash_points import crash_points_around
from prefect_core.engine.deadlines import DeadlinePassed
from prefect_core.engine.signals import cause_of, is_cancellation
from prefect_core.errors import Pause, PrefectException, TerminationSignal, describe, shown
from prefect_core.final_states import state_of_value
from prefect_core.payload import Receipt
from prefect_core.runs import FlowRun, Run, TaskRun
from prefect_core.state_kinds import (
    CANCELLED,
    CANCELLING,
    CRASHED,
    FAILED,
    FINAL,
    PAUSED,
    PENDING,
    RUNNING,
    TRANSITIONS,
)
from prefect_core.states import State
from prefect_core.stripes import Stripes


class RunIsOver(BaseException):
    """Ends a lifecycle whose run was brought to its end by somebody else."""


_locks = Stripes()
_ENDS = FINAL | {PAUSED}


@crash_points_around("engine.state")
def enter(run: Run, state: State) -> State:
    """Move `run` to `state` and record it; returns the state that it has then.

    That is Cancelled for a run that is being cancelled and ended otherwise meanwhile. Raises `RunIsOver` if the run has ended, whoever
    ended it, or is being cancelled and would go on.
    """
    with _locks.of(run):
        before = run.state
        if state.type not in TRANSITIONS[before.type]:
            if before.type in FINAL or (before.type is CANCELLING and state.type not in FINAL):
                raise RunIsOver
            if before.type is not CANCELLING:
                raise PrefectException(f"{run.name} can't go from {before} to {state}.")
            state = cancelled(run)
        if state.timestamp_us <= before.timestamp_us:
            # Two states of a run never share a moment, so that their order can be told from the history alone.
            state.timestamp_us = before.timestamp_us + 1
        _adopt(run, state)
        if state.type is RUNNING:
            if not run.started_us:
                run.started_us = state.timestamp_us
        elif state.type in FINAL:
            run.ended_us = state.timestamp_us
        run.state = state
        history.current().entered(run, state)
    return state


@crash_points_around("engine.state")
def run_and_complete(run: TaskRun, started_us: int, state: State) -> bool:
    """Move a run that has never begun to Running and at once on to `state`, a Completed one, and record both: its body ran elsewhere.

    Returns False, and does nothing, where that is not the whole of its course.
    """
    with _locks.of(run):
        before = run.state
        if before.type is not PENDING or run.run_count:
            return False
        started_us = max(started_us, before.timestamp_us + 1)
        state.timestamp_us = max(state.timestamp_us, started_us + 1)
        _adopt(run, state)
        run.run_count, run.started_us, run.ended_us, run.state = 1, started_us, state.timestamp_us, state
        history.current().ran(run, started_us, state)
    return True


def cancelled(run: Run, data: object = None) -> State:
    """Return the state of a run that was cancelled; `data` is an exception that has to reach who called it."""
    return State(CANCELLED, None, f"{'Flow' if isinstance(run, FlowRun) else 'Task'} run was cancelled.", data=data)


def reopen(run: Run, state: State, instead_of: State) -> State:
    """Move a run that has ended, and shows `instead_of`, to `state`, from which a new attempt of it goes on. Raises `RunIsOver`."""
    with _locks.of(run):
        if run.state is not instead_of:
            raise RunIsOver
        state.timestamp_us = max(state.timestamp_us, run.state.timestamp_us + 1)
        _adopt(run, state)
        run.ended_us = 0
        run.state = state
        history.current().entered(run, state)
    return state


def withhold(run: Run) -> State:
    """Let a run that ended in an earlier attempt show that this one knows nothing of it yet."""
    return show(run, State(PENDING, message="Its earlier result is looked for."), run.state)


def show(run: Run, state: State, instead_of: State) -> State:
    """Let a run that ended in an earlier attempt show another state, while in the history it stays as it is. Raises `RunIsOver`."""
    with _locks.of(run):
        if run.state is not instead_of:
            raise RunIsOver
        # The moment stays that of its last state in the history.
        state.timestamp_us = instead_of.timestamp_us
        _adopt(run, state)
        run.ended_us = state.timestamp_us if state.type in FINAL else 0
        run.state = state
    return state


def note_again(run: Run, state: State, at_us: int, after_us: int) -> int:
    """Record a state of a further attempt of a run that shows how it ended before, and goes on to; returns the moment of the state.

    That is `at_us`, or now, but later than `after_us` and than the state that it shows.
    """
    with _locks.of(run):
        state.timestamp_us = max(at_us or state.timestamp_us, after_us + 1, run.state.timestamp_us + 1)
        _adopt(run, state)
        history.current().entered(run, state)
    return state.timestamp_us


def _adopt(run: Run, state: State) -> None:
    if isinstance(run, FlowRun):
        state.flow_uid = run.uid
    else:
        state.task_uid = run.uid
        if run.flow_run is not None:
            state.flow_uid = run.flow_run.uid


def state_at_end(value: object) -> State:
    """Return the state of a run whose function returned `value`; never the object that the function made, which may serve other runs."""
    state = state_of_value(value)
    if state is not value:
        return state
    if state.type not in _ENDS:
        error = ValueError(
            f"The function returned the state {state}, which can't end a run. Return a final state, Paused or a value."
        )
        return State(FAILED, None, str(error), data=error)
    return state.copy()


def failure(kind: str, separator: str, receipt: Receipt, timeout_seconds: float | None) -> State:
    """Return the state of an attempt that `receipt.error` ended; `kind` is "Flow run" or "Task run"."""
    error = receipt.error
    assert error is not None
    if receipt.timed_out:
        message = f"{kind} exceeded timeout of {timeout_seconds} second(s)"
        return State(FAILED, "TimedOut", message, data=error)
    if receipt.lost:
        return State(CRASHED, None, str(error), data=error)
    if isinstance(error, TimeoutError):
        return State(FAILED, "TimedOut", f"{kind} failed due to timeout: {shown(error)}", data=error)
    if isinstance(error, Pause):
        return State(CANCELLED, None, f"{kind} was ended early: the flow run around it was suspended.", data=error)
    if isinstance(error, Exception):
        return State(FAILED, None, f"{kind} encountered an exception{separator} {describe(error)}", data=error)
    return State(CRASHED, None, crash_message(error), data=error)


def crash_message(error: BaseException) -> str:
    """Say in words what ended a body from outside of its function."""
    error = cause_of(error)
    if isinstance(error, KeyboardInterrupt):
        return "Execution was aborted by an interrupt signal."
    if isinstance(error, TerminationSignal):
        return "Execution was aborted by a termination signal."
    if isinstance(error, SystemExit):
        return "Execution was aborted by Python system exit call."
    if isinstance(error, DeadlinePassed):
        return "Execution was interrupted since a run around it exceeded its timeout."
    if is_cancellation(error):
        return "Execution was cancelled by the runtime environment."
    return f"Execution was interrupted by an unexpected exception: {describe(error)}"
