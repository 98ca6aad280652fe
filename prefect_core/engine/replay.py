"""What a worker collected, recorded and shown by the main process as if it had happened here.

Runs get their keys and, where the flow run counts them, their numbers here. Their states were checked where they were entered.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from prefect_core import history, logs
from prefect_core.context import FlowRunContext, RunContext, TaskRunContext
from prefect_core.engine.collect import COUNTED, CREATED, ENTERED, LOGGED, RENAMED, SHOWN, Event
from prefect_core.engine.forwarding import WARNINGS
from prefect_core.engine.outline import Known, Outline, revive
from prefect_core.engine.tally import Tally
from prefect_core.engine.travelling_errors import load_error
from prefect_core.logs.records import RunLink
from prefect_core.runs import FlowRun, Run, TaskRun
from prefect_core.state_kinds import CRASHED, FINAL, PENDING, StateType
from prefect_core.states import State, StateDetails

Course = tuple[int, int, int, str]
"""Attempt, run count, first start, and the worker or (of a flow run) the runner."""


class _Afar:
    """Stands for the dispatcher of a flow run in a worker, for those who count lines."""

    def __init__(self, lines: Any) -> None:
        self.lines = lines
        self.tally = Tally()


class Replay:
    """Replays the events of one attempt, in the order in which they are given; by one thread at a time."""

    def __init__(self, around: TaskRunContext) -> None:
        self._around = around
        self._contexts: dict[int, RunContext] = {}
        self._known: Known = {}
        self._open: dict[int, None] = {}
        self._ended: list[int] = []
        context: RunContext | None = around
        while context is not None:
            self._know(context.run, context)
            context = context.parent

    def _know(self, run: Run, context: RunContext) -> None:
        self._known[run.uid] = run
        self._contexts[run.uid] = context

    def events(self, events: list[Event]) -> None:
        """Record what happened. Whatever comes of a run that ended before the last events came is dropped."""
        for uid in self._ended:
            self._known.pop(uid, None)
            self._contexts.pop(uid, None)
        self._ended = []
        for event in events:
            _REPLAY[event[0]](self, *event[1:])

    def close(self, reason: str) -> None:
        """End the runs that were under way in a worker that is gone."""
        for uid in reversed(list(self._open)):
            run = self._known[uid]
            state = State(CRASHED, None, reason)
            if isinstance(run, FlowRun):
                # Its worker would have called them.
                run.owes_hooks = True
            place = run.runner_name if isinstance(run, FlowRun) else run.worker
            self._enter(run, state, (run.attempt, run.run_count, run.started_us, place))
            if isinstance(run, TaskRun) and run.flow_run is self._around.task_run.flow_run:
                self._count(uid)

    def _create(self, outline: Outline, plain: tuple[Any, ...]) -> None:
        revive([outline], self._known)
        run = self._known[outline[1]]
        run.state = _adopted(run, _state(plain))
        self._open[run.uid] = None
        is_tracking = isinstance(run, TaskRun) and bool(outline[-1])
        dispatcher = self._around.dispatcher
        if isinstance(run, TaskRun) and dispatcher is not None and run.flow_run is self._around.task_run.flow_run:
            # The number that the worker gave was its own.
            run.index = dispatcher.next_index(run.task_name)
        history.current().created(run)
        if not is_tracking:
            self._show_creation(run)

    def _show_creation(self, run: Run) -> None:
        tracking = run.parent_task_run
        if isinstance(run, FlowRun):
            # What stands for it in its parent is no place that code is in.
            around = (
                self._context_of(tracking.parent_task_run or tracking.flow_run)
                if tracking is not None
                else self._around
            )
            context = FlowRunContext(None, run, run.parameters, False, around)
            context.dispatcher = _Afar(logs.lines_around(self._around))
            self._contexts[run.uid] = context
            logs.flow_created(context)
        else:
            task_context = TaskRunContext(None, run, {}, False, self._context_of(tracking or run.flow_run))
            self._contexts[run.uid] = task_context
            logs.task_created(task_context)

    def _context_of(self, run: Run | None) -> RunContext:
        return self._contexts.get(run.uid, self._around) if run is not None else self._around

    def _move(self, uid: int, plain: tuple[Any, ...], course: Course, error: bytes | None) -> None:
        run = self._known.get(uid)
        if run is not None:
            state = _state(plain)
            state.data = load_error(error) if error is not None else None
            self._enter(run, state, course)

    def _enter(self, run: Run, state: State, course: Course) -> None:
        run.attempt, run.run_count, run.started_us, place = course
        if isinstance(run, FlowRun):
            run.runner_name = place
        else:
            run.worker = place
        run.state = _adopted(run, state)
        is_over = state.type in FINAL or (state.type is PENDING and state.name == "NotReady")
        if is_over:
            run.ended_us = state.timestamp_us if state.type in FINAL else 0
            self._open.pop(run.uid, None)
            self._ended.append(run.uid)
        history.current().entered(run, state)
        if is_over:
            self._show_end(self._contexts.get(run.uid), state)

    def _show_end(self, context: RunContext | None, state: State) -> None:
        if isinstance(context, FlowRunContext):
            logs.flow_finished(context, state)
        elif context is not None:
            logs.task_finished(context, state)
            flow_context = context.flow_context
            if flow_context is not None and isinstance(flow_context.dispatcher, _Afar):
                flow_context.dispatcher.tally.add(context.task_run)

    def _rename(self, uid: int, name: str, parameters: dict[str, Any] | None) -> None:
        run = self._known.get(uid)
        if run is not None:
            run.name = name
            if isinstance(run, FlowRun) and parameters is not None:
                run.parameters = parameters
            history.current().renamed(run)

    def _log(self, uid: int, level: int, logger: str, message: str, timestamp_us: int) -> None:
        history.current().logged(self._known.get(uid), level, logger, message, timestamp_us)

    def _show(self, uid: int, fields: dict[str, Any]) -> None:
        # What is kept with the run has come as an event of its own.
        record = logging.makeLogRecord({**fields, "run_link": RunLink(self._known.get(uid)), "send_to_api": False})
        logger = logging.getLogger(record.name)
        if record.name == WARNINGS and not logger.hasHandlers():
            print(record.getMessage(), end="", file=sys.stderr)
        elif logger.isEnabledFor(record.levelno):
            logger.handle(record)

    def _count(self, uid: int) -> None:
        run = self._known.get(uid)
        dispatcher = self._around.dispatcher
        if isinstance(run, TaskRun) and dispatcher is not None:
            dispatcher.note(run)


_REPLAY: dict[int, Callable[..., None]] = {
    CREATED: Replay._create,
    ENTERED: Replay._move,
    RENAMED: Replay._rename,
    LOGGED: Replay._log,
    SHOWN: Replay._show,
    COUNTED: Replay._count,
}


def _state(plain: tuple[Any, ...]) -> State:
    kind, name, message, timestamp_us, details = plain
    state = State(StateType(kind), name, message)
    if details:
        state = State(StateType(kind), name, message, state_details=StateDetails(**details))
    state.timestamp_us = timestamp_us
    return state


def _adopted(run: Run, state: State) -> State:
    if isinstance(run, FlowRun):
        state.flow_uid = run.uid
    else:
        state.task_uid = run.uid
        state.flow_uid = run.flow_run.uid if run.flow_run is not None else 0
    return state
