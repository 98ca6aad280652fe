"""Calling the hooks that a process owed when it was lost, in another one: those of the flow that stands at the run's entry point now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect_core import logs
from prefect_core.context import FlowRunContext
from prefect_core.crash_points import crash_points_around
from prefect_core.engine.hooks import call_hooks_now
from prefect_core.engine.ledger import Ledger, flow_run_of
from prefect_core.engine.outside import outside
from prefect_core.entrypoints import load_flow
from prefect_core.errors import MissingFlowError, ObjectNotFound, ScriptError, UnspecifiedFlowError, describe
from prefect_core.history.process import this_user
from prefect_core.runs import FlowRun, TaskRun
from prefect_core.state_kinds import StateType
from prefect_core.states import NO_DATA, State

if TYPE_CHECKING:
    from prefect_core.flows import Flow
    from prefect_core.history import HistoryStore
    from prefect_core.history.owed import OwedRow
    from prefect_core.history.rows import FlowRunRow, StateRow, TaskRunRow


class OwedHooks(NamedTuple):
    """Hooks of one state of a flow run, and what came of them."""

    row: FlowRunRow
    state: StateRow
    obstacle: str | None
    """Why they can't be called; None if they were, or are there to be called."""


def owed_hooks(stored: HistoryStore, flow_run: int | None = None) -> Iterator[OwedHooks]:
    """Give the hooks that nobody calls, of all runs or of those in a flow run; loads nothing of the user's."""
    for _, hooks in _found(stored, flow_run):
        yield hooks


def _found(stored: HistoryStore, flow_run: int | None) -> Iterator[tuple[OwedRow, OwedHooks]]:
    for owed in stored.owed(flow_run):
        try:
            row = stored.flow_run(owed.run)
        except ObjectNotFound:
            # It was deleted meanwhile.
            continue
        state = next((one for one in stored.states(owed.run) if one.timestamp_us == owed.at_us), None)
        if state is not None:
            lack = (
                f"its flow {row.flow_name!r} stands in no file, or inside a function." if not row.entrypoint else None
            )
            yield owed, OwedHooks(row, state, lack)


def call_owed(stored: HistoryStore, flow_run: int | None = None) -> Iterator[OwedHooks]:
    """Claim and call the hooks that nobody calls, of all runs or of those in a flow run; gives those that others have not claimed first.

    Hooks that can't be loaded stay owed. An error of a hook is logged, with its run.
    """
    for owed, hooks in _found(stored, flow_run):
        if hooks.row.entrypoint is None:
            yield hooks
            continue
        try:
            flow = load_flow(hooks.row.entrypoint)
        except (MissingFlowError, UnspecifiedFlowError, ScriptError) as error:
            yield hooks._replace(obstacle=describe(error))
            continue
        if stored.claim_owed(owed, this_user()):
            _call(stored, flow, hooks)
            yield hooks


@crash_points_around("owed_hooks.call")
def _call(stored: HistoryStore, flow: Flow[..., Any], hooks: OwedHooks) -> None:
    row, told = hooks.row, hooks.state
    kind = StateType(told.type)
    # The exception, or the value, went with the process that had it.
    state = State(kind, told.name, told.message, data=NO_DATA)
    state.timestamp_us = told.timestamp_us
    run = flow_run_of(row, _standing_for(stored, row), told.attempt)
    run.state, state.flow_uid, run.ended_us = state, run.uid, told.timestamp_us
    around = FlowRunContext(flow, run, row.parameters, flow.logs_prints(None), None)
    around.dispatcher, around.ledger = outside(), Ledger()
    try:
        call_hooks_now(flow.hooks_for(kind), flow, state, around)
    except SystemExit as error:
        logs.note(around, logs.ERROR, "A hook asked Python to exit; what comes after it is not called.", error)


def _standing_for(stored: HistoryStore, row: FlowRunRow) -> TaskRun | None:
    """Return the record of the task run that stands for a subflow run, in those of the flow runs around; None for a root."""
    if row.parent_task_run is None or row.parent_flow_run is None:
        return None
    around = stored.flow_run(row.parent_flow_run)
    return _task_run_of(stored.task_run(row.parent_task_run), flow_run_of(around, _standing_for(stored, around)))


def _task_run_of(row: TaskRunRow, flow_run: FlowRun) -> TaskRun:
    state = State(StateType(row.state_type), row.state_name, row.state_message, data=NO_DATA)
    state.timestamp_us = row.state_us
    run = TaskRun(state, row.task_name, row.task_key, flow_run, row.index, frozenset(row.tags))
    run.uid, run.key, run.created_us = row.uid, row.key, row.created_us
    run.started_us, run.ended_us, run.run_count = row.started_us or 0, row.ended_us or 0, row.run_count
    state.task_uid = run.uid
    return run
