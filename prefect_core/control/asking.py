"""Asking the owner of a run for something, and waiting for what it says; never for ever, should it be gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect_core import settings
from prefect_core.control import steward
from prefect_core.control.reaping import reap
from prefect_core.errors import NotAnswering, ObjectNotFound
from prefect_core.history.process import this_user
from prefect_core.history.requests import ENDED, LOST, OVER
from prefect_core.state_kinds import FINAL, PAUSED, StateType

if TYPE_CHECKING:
    from prefect_core.history.control import Control
    from prefect_core.history.requests import RequestRow
    from prefect_core.history.rows import FlowRunRow, TaskRunRow
    from prefect_core.history.store import HistoryStore

POLL_SECONDS = 0.05
LOOK_SECONDS = 1.0
"""How often it is asked whether the owner still lives."""
NOT_THERE = "No process runs this."
WITHDRAWN = "Who asked for it did not wait any longer."
_LEAST_PATIENCE_SECONDS = 1.0


class Answer(NamedTuple):
    """What came of a request."""

    answer: dict[str, Any]
    """What the owner answered; empty if it did not."""
    over: str | None
    """Why the owner will not answer any more: the run has ended, or its process has. None if it did."""


def addressee(task_run: TaskRunRow) -> int:
    """Return the run to ask for something about a task run: its flow run, or what stands for its process if it is in none."""
    return task_run.flow_run if task_run.flow_run is not None else task_run.process << 32


def is_process(addressee: int) -> bool:
    """Tell whether what is asked is a process, and no flow run."""
    return not addressee & 0xFFFFFFFF


def hearer(store: HistoryStore, row: FlowRunRow) -> FlowRunRow:
    """Return the outermost flow run around one that the same process has.

    What is asked about one that runs in a worker process is not heard by its own key.
    """
    control = store.control()
    owner = control.owner(row.key)
    while row.parent_flow_run is not None and control.owner(row.parent_flow_run) == owner:
        row = store.flow_run(row.parent_flow_run)
    return row


def ask_about(store: HistoryStore, row: FlowRunRow, kind: str, detail: Mapping[str, Any]) -> RequestRow:
    """Ask the process of a flow run for something about it; the detail gets its key as `run`. Raises `HistoryError`."""
    outermost = hearer(store, row)
    # A task outside of flows may have called it in a worker process, too; who runs it again calls it by itself.
    is_called_outside = outermost.parent_task_run is not None and outermost.parent_flow_run is None
    is_outside = is_called_outside and not store.reopenings(outermost.key)
    whom = store.control().owner(row.key) << 32 if is_outside else outermost.key
    return ask(store, whom, kind, {"run": row.key, **detail})


def patience_seconds(grace_seconds: float | None = None) -> float:
    """Return how long to wait for the answer of a process that lives, where it is given so long to do what is asked (None: as is set)."""
    grace = settings.current().cancel_grace_seconds if grace_seconds is None else grace_seconds
    return max(grace, _LEAST_PATIENCE_SECONDS)


def ask(store: HistoryStore, run: int, kind: str, detail: Mapping[str, Any] | None = None) -> RequestRow:
    """Ask the owner of a run, by key, for something; the request is durable when this returns. Raises `HistoryError`."""
    request = store.control().ask(run, kind, detail or {}, this_user())
    steward.nudge()
    return request


def await_answer(store: HistoryStore, request: RequestRow, timeout_seconds: float | None = None) -> Answer | None:
    """Block until a request is answered, or it is known that it won't be; None if the time was up before. Raises `HistoryError`."""
    control = store.control()
    give_up = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    pause = threading.Event()
    next_look, reason = 0.0, None
    while True:
        row = control.request(request.key)
        if row is None:
            return Answer({}, ENDED)
        if row.answer is not None:
            return Answer(row.answer, None) if OVER not in row.answer else Answer({}, row.answer[OVER])
        now = time.monotonic()
        if now >= next_look:
            next_look = now + LOOK_SECONDS
            before, reason = reason, _why_over(store, request)
            # The owner's last word may have come in between, or be on its way.
            if reason is not None and before is not None:
                # So that nobody reads it again and again, or hears it who gets the run one day.
                control.answer(request.key, {OVER: reason})
                return Answer({}, reason)
        if give_up is not None and now >= give_up:
            return None
        pause.wait(POLL_SECONDS)


def await_answer_or_withdraw(store: HistoryStore, request: RequestRow) -> Answer:
    """Block until a request about a flow run is answered, or it is known that it won't be.

    Raises `NotAnswering` when patience is over, and then it is withdrawn: the owner does nothing of it that it has not done by then.
    """
    patience = patience_seconds()
    told = await_answer(store, request, patience)
    if told is not None:
        return told
    if not store.control().answer(request.key, {OVER: WITHDRAWN}):
        # The answer came at the last moment.
        last = await_answer(store, request)
        assert last is not None
        return last
    about = store.flow_run(request.detail["run"])
    process = store.control().process(store.control().owner(about.key))
    where = f" ({process.host}:{process.pid})" if process is not None else ""
    raise NotAnswering(
        f"Its process{where} has not answered within {patience:g} s: it may be stopped, or in code that lets nothing else of it go on. "
        f"What was asked is withdrawn. Ask again when it goes on, or end the run by `prefect-core flow-run cancel "
        f"{hearer(store, about).id}`."
    )


def is_left(control: Control, row: FlowRunRow) -> bool:
    """Tell whether a flow run is suspended and was left by its process, which may do other things now and hears nothing for it."""
    return row.state_type == PAUSED.value and any(pause.is_left for pause in control.pauses(row.key)[-1:])


def _why_over(store: HistoryStore, request: RequestRow) -> str | None:
    """Tell why a request will not be answered; what a dead process was asked for is answered by whoever finds it."""
    control = store.control()
    reap(control)
    try:
        if is_process(request.run):
            # It does not listen while nothing is under way in it outside of flows.
            about = request.detail.get("run")
            is_over = about is not None and StateType(_run(store, about).state_type) in FINAL
        else:
            row = store.flow_run(request.run)
            is_over = StateType(row.state_type) in FINAL or is_left(control, row)
    except ObjectNotFound:
        is_over = True
    if is_over:
        return ENDED
    lease = control.lease(control.owner(request.run))
    if lease is None:
        return NOT_THERE
    return LOST if lease.taken_by is not None else None


def _run(store: HistoryStore, key: int) -> FlowRunRow | TaskRunRow:
    try:
        return store.task_run(key)
    except ObjectNotFound:
        return store.flow_run(key)
