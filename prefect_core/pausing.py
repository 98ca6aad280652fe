"""`pause_flow_run`, `suspend_flow_run`, `resume_flow_run`. In the body of an `async def` flow each returns an awaitable, and only there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect_core import context, history, input_forms, moments, resuming
from prefect_core.blocking import on_thread
from prefect_core.context import FlowRunContext
from prefect_core.control import asking
from prefect_core.control.reaping import reap
from prefect_core.engine.pausing import NOT_RUNNING, Wish, pause_of_body
from prefect_core.engine.pausing_asked import ELSEWHERE, REFUSED
from prefect_core.errors import NotAnswering, PrefectException
from prefect_core.history.requests import ENDED
from prefect_core.state_kinds import FINAL, PENDING, RUNNING, StateType

if TYPE_CHECKING:
    from prefect_core.history import HistoryStore
    from prefect_core.history.rows import FlowRunRow

NOT_ALONE = "It runs in a worker process, where it can't be paused by itself."
INSTEAD = "Pause the flow run that it is in: {} ({})."

__all__ = ["pause_flow_run", "resume_flow_run", "suspend_flow_run"]


def pause_flow_run(
    timeout: float | None = 3600,
    poll_interval: float = 10,
    reschedule: bool = False,
    key: str | None = None,
    flow_run_id: UUID | str | None = None,
    wait_for_input: Any = None,
) -> Any:
    """Pause the flow run that this is called in, or the one with `flow_run_id`, until it is resumed.

    Called in a flow's body it blocks, for `timeout` seconds at most (None: for ever), and returns None or, where `wait_for_input` says of
    what type (a `RunInput`, a pydantic model or any other), what was given. No body of a task or subflow begins meanwhile; those that run
    go on. A resume is told at once: `poll_interval` is there for programs that come from elsewhere. With `reschedule` the process ends the
    run instead, once what was submitted before has ended: the flow's call raises `PausedRun`, and whoever resumes the run runs it again
    from the top, with stored results taken over. A pause whose `key` (by default: the how-manieth of the run it is) has fired returns at
    once then. A retry of a run that failed or was cancelled pauses again; that of one that crashed does not, where it was resumed before.

    With `flow_run_id` another process is asked to, and has stopped to begin bodies when this returns. Without `reschedule` the run is held
    there at its next calls, and at its end; with it, it unwinds at the next call.

    Raises `FlowPauseTimeout` when nobody resumed the run in time, `RuntimeError` for what can't be paused: no flow run at all, a task's
    body, a run that is not running, one in a worker process, and with `reschedule` a subflow run or one whose flow another process could
    not find. Raises `NotAnswering` when the other process lives and does not answer within `cancel_grace_seconds`: nothing is paused then.
    """
    if timeout is not None and timeout < 0:
        raise ValueError(f"'timeout' must be a non-negative number, got {timeout!r}")
    if flow_run_id is not None:
        return _pause_elsewhere(flow_run_id, Wish(timeout, key, is_suspended=reschedule), wait_for_input)
    around = _flow_to("pause", "paused")
    form = input_forms.Form(wait_for_input) if wait_for_input is not None else None
    return _carried_out(around, Wish(timeout, key, form, reschedule, is_of_body=True))


def suspend_flow_run(
    wait_for_input: Any = None,
    flow_run_id: UUID | str | None = None,
    timeout: float | None = 3600,
    key: str | None = None,
) -> Any:
    """Do what `pause_flow_run(reschedule=True)` does; the state is called Suspended."""
    if timeout is not None and timeout < 0:
        raise ValueError(f"'timeout' must be a non-negative number, got {timeout!r}")
    if flow_run_id is not None:
        return _pause_elsewhere(flow_run_id, Wish(timeout, key, is_suspended=True, name="Suspended"), wait_for_input)
    around = _flow_to("suspend", "suspended")
    form = input_forms.Form(wait_for_input) if wait_for_input is not None else None
    return _carried_out(around, Wish(timeout, key, form, is_suspended=True, is_of_body=True, name="Suspended"))


def resume_flow_run(flow_run_id: UUID | str, run_input: Any = None) -> Any:
    """Resume a paused flow run: at once where it is held, else in a new process, which has it when this returns and outlives this one.

    `run_input` is what the run waits for: a dict of fields (of one field, `value`, for a type without fields), or an instance of the form.
    Raises `NotPausedError` for a run that is not paused, `FlowPauseTimeout` for one that can no longer be resumed, `InvalidInput` for an
    input that does not fit, after which the run is paused as before.
    """
    return _for_flow(partial(resuming.resume, str(flow_run_id), run_input))


def _flow_to(verb: str, participle: str) -> FlowRunContext:
    around = context.current()
    if isinstance(around, FlowRunContext) and around.pausing is not None:
        return around
    if around is not None and not isinstance(around, FlowRunContext):
        raise RuntimeError(f"Cannot {verb} task runs.")
    raise RuntimeError(f"Flow runs can only be {participle} from within a flow run.")


def _carried_out(around: FlowRunContext, wish: Wish) -> Any:
    steps = pause_of_body(around.pausing, wish)
    return moments.arun(steps) if around.flow.is_async else moments.run(steps)


def _for_flow(work: Callable[[], Any]) -> Any:
    """Do what blocks; awaitable in the body of an async flow."""
    around = context.current()
    is_awaited = isinstance(around, FlowRunContext) and around.flow.is_async
    return on_thread(work) if is_awaited else work()


def _pause_elsewhere(flow_run_id: UUID | str, wish: Wish, wait_for_input: Any) -> Any:
    if wait_for_input is not None:
        raise RuntimeError("Cannot wait for input when pausing out of process.")
    return _for_flow(partial(ask_to_pause, str(flow_run_id), wish))


def ask_to_pause(name: str, wish: Wish) -> str | None:
    """Have the process of a flow run pause it; returns the message of its state."""
    with history.reading() as stored:
        reap(stored.control())
        row = stored.flow_run(name)
        # Where the history still says Pending, the body may have just begun: its process knows.
        if StateType(row.state_type) not in {PENDING, RUNNING}:
            raise RuntimeError(f"Flow run cannot be {wish.participle}: {NOT_RUNNING}")
        detail = {
            "timeout_seconds": wish.timeout_seconds,
            "key": wish.key,
            "reschedule": wish.is_suspended,
            "verb": wish.verb,
        }
        request = asking.ask_about(stored, row, "pause", detail)
        try:
            told = asking.await_answer_or_withdraw(stored, request)
        except NotAnswering as error:
            raise NotAnswering(f"{row.name} could not be {wish.participle}. {error}") from None
        refusal = told.over or told.answer.get(REFUSED)
        if ELSEWHERE in told.answer:
            refusal = _why_not_found(stored, stored.flow_run(row.key))
    if refusal is not None:
        raise RuntimeError(f"Flow run cannot be {wish.participle}: {refusal}")
    if "error" in told.answer:
        raise PrefectException(f"{row.name} could not be {wish.participle}: {told.answer['error']}")
    message: str | None = told.answer.get("message")
    return message


def _why_not_found(stored: HistoryStore, row: FlowRunRow) -> str:
    if (state := StateType(row.state_type)) in FINAL:
        return ENDED
    if state is PENDING:
        return NOT_RUNNING
    outermost = asking.hearer(stored, row)
    return NOT_ALONE if outermost.key == row.key else f"{NOT_ALONE} {INSTEAD.format(outermost.name, outermost.id)}"
