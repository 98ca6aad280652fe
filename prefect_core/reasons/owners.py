"""Asking the process of a run for what only that knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_core import clock
from prefect_core.control.asking import addressee, ask, await_answer
from prefect_core.history.rows import TaskRunRow
from prefect_core.reasons import looking
from prefect_core.reasons.kinds import InChunk, LateBody, NoPlace, NotBegun, RunRef, WaitingForInput, WaitingForLock
from prefect_core.reasons.looking import Found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect_core.history.store import HistoryStore
    from prefect_core.reasons.looking import Row

PATIENCE_SECONDS = 2.0
"""How long is waited for the answer: a process that is stopped, or very busy, gives none."""

Account = dict[str, Any]


def asked(store: HistoryStore, row: Row) -> Account | None:
    """Return what the process of a run says of it (`engine.accounts`); None if it does not answer, and {} if there is nobody to ask.

    Whatever concerns a task run is known where its flow run is; and outside of flows, to its process.
    """
    if looking.owner(store, row) is None:
        return {}
    request = ask(store, addressee(row) if isinstance(row, TaskRunRow) else row.key, "why", {"run": str(row.id)})
    try:
        answer = await_answer(store, request, PATIENCE_SECONDS)
    finally:
        # Unlike what changes a run, it tells nobody anything later.
        store.control().retract(request.key)
    return answer.answer if answer is not None else None


def of_account(store: HistoryStore, row: TaskRunRow, account: Account) -> Found:
    """Return what keeps a task run from beginning, as its process says."""
    match account:
        case {"step": "lock", "key": key, "holder": id}:
            holder = _holder(store, id) if id is not None else None
            return Found(WaitingForLock(key, looking.ref(holder) if holder is not None else None), holder)
        case {"step": "gathering"}:
            return Found(InChunk(None, 0, None))
        case {"step": "chunk", "runner": runner, "ahead": ahead, "running": running}:
            return Found(InChunk(runner, ahead, next(iter(_refs(store, running)), None)))
        case {"step": "runner", "runner": runner, "running": running, "running_count": count, "resources": resources}:
            return Found(NoPlace(runner, _refs(store, running), count, resources))
        case {"step": "late body"}:
            return Found(LateBody(row.state_timestamp))
    return Found(NotBegun(row.state_timestamp))


def for_input(account: Account) -> WaitingForInput | None:
    """Return what the body of a run waits for, as its process says, if that is an input."""
    told = account.get("input")
    if told is None:
        return None
    until = clock.to_datetime(told["until"]) if told["until"] is not None else None
    return WaitingForInput(told["flow_run"], tuple(told["channels"]), clock.to_datetime(told["since"]), until)


def _holder(store: HistoryStore, id: str) -> Row | None:
    return looking.by_id(store, id) or looking.by_id(store, id, "flow_run")


def _refs(store: HistoryStore, ids: Sequence[str]) -> tuple[RunRef, ...]:
    found = [looking.by_id(store, one) for one in ids]
    return tuple(looking.ref(row) for row in found if row is not None)
