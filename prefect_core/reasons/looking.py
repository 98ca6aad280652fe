"""Looking at the history for the facts that reasons are made of: names of runs, the process that has one, what was asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from prefect_core import clock
from prefect_core.control.asking import addressee
from prefect_core.errors import ObjectNotFound
from prefect_core.history.process import boot_id, monotonic_us
from prefect_core.history.rows import FlowRunRow, TaskRunRow
from prefect_core.history.store import RunFilter, not_found
from prefect_core.reasons.kinds import Asker, Process, RunRef
from prefect_core.state_kinds import FINAL, StateType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from prefect_core.history.leases import LeaseRow
    from prefect_core.history.process import ProcessIdentity
    from prefect_core.history.requests import RequestRow
    from prefect_core.history.store import HistoryStore
    from prefect_core.reasons.kinds import Reason

Row = FlowRunRow | TaskRunRow


class Found(NamedTuple):
    """The reason of one run, and the run to go on with, if it lies there."""

    reason: Reason
    further: Row | None = None


NOT_READY = "NotReady"
_OPEN_TYPES = tuple(kind.value for kind in StateType if kind not in FINAL)


def find(store: HistoryStore, name: str) -> Row:
    """Find a flow run or task run by id, unique start of an id, or name; of equal names, the flow run. Raises `ObjectNotFound`."""
    found: list[Row] = []
    problem: ObjectNotFound | None = None
    for look in (store.flow_run, store.task_run):
        try:
            found.append(look(name))
        except ObjectNotFound as error:
            # Of two messages, the one that says more: several begin so.
            problem = error if problem is None or "Several" in str(error) else problem
    if len(found) == 2 and all(row.name != name and str(row.id) != name for row in found):
        raise not_found("run", name, [row.id for row in found])
    if found and (problem is None or "Several" not in str(problem) or found[0].name == name):
        return found[0]
    if problem is not None and "Several" in str(problem):
        raise problem
    raise not_found("flow run or task run", name)


def ref(row: Row) -> RunRef:
    """Return what names a run."""
    kind = "flow_run" if isinstance(row, FlowRunRow) else "task_run"
    return RunRef(kind, str(row.id), row.name, row.state_name)


def by_id(store: HistoryStore, id: UUID | str, kind: str = "task_run") -> Row | None:
    """Return a run; None if it is not in the history any more."""
    try:
        return store.flow_run(str(id)) if kind == "flow_run" else store.task_run(str(id))
    except ObjectNotFound:
        return None


def flow_run_of(store: HistoryStore, row: Row) -> FlowRunRow | None:
    """Return the flow run that a run was called in."""
    key = row.flow_run if isinstance(row, TaskRunRow) else row.parent_flow_run
    try:
        return store.flow_run(key) if key is not None else None
    except ObjectNotFound:
        return None


def around(store: HistoryStore, row: Row) -> Iterator[FlowRunRow]:
    """Give the flow runs that a run is in, from inside out; with itself, if it is one."""
    at = row if isinstance(row, FlowRunRow) else flow_run_of(store, row)
    while at is not None:
        yield at
        at = flow_run_of(store, at)


def has_ended(row: Row) -> bool:
    """Tell whether nothing becomes of a run any more."""
    return StateType(row.state_type) in FINAL or row.state_name == NOT_READY


def open_children(store: HistoryStore, flow_run: int) -> list[TaskRunRow]:
    """Return the task runs of a flow run that have not ended, in the order in which they were made."""
    rows = store.task_runs(RunFilter(flow_run=flow_run, state_types=_OPEN_TYPES))
    return [row for row in reversed(rows) if not has_ended(row)]


def process(identity: ProcessIdentity | None, silent_seconds: float | None = None) -> Process | None:
    """Return what names a process."""
    return Process(identity.host, identity.pid, silent_seconds) if identity is not None else None


def lease_of(store: HistoryStore, row: Row) -> LeaseRow | None:
    """Return the lease of the process that a run belongs to, also one that was taken; None if that ended and left nothing open."""
    control = store.control()
    return control.lease(control.owner(row.key))


def owner(store: HistoryStore, row: Row) -> Process | None:
    """Return the living process that a run belongs to, as far as is known; None if there is none."""
    lease = lease_of(store, row)
    if lease is None or lease.taken_by is not None or lease.let_go_us is not None:
        return None
    return process(lease.process, silent_seconds(lease))


def silent_seconds(lease: LeaseRow) -> float | None:
    """Return how long ago a process said that it lives; None where its clock is not the one here."""
    if not lease.process.boot_id or lease.process.boot_id != boot_id():
        return None
    return max(0.0, (monotonic_us() - (lease.expires_us - lease.length_us)) / 1_000_000)


def last_heard(lease: LeaseRow) -> datetime | None:
    """Return when a process last said that it lives, or that it ends; None where its clock is not the one here."""
    if lease.let_go_us is not None:
        return clock.to_datetime(lease.let_go_us)
    silent = silent_seconds(lease) if lease.expires_us else None
    return clock.to_datetime(clock.now_us() - round(silent * 1_000_000)) if silent is not None else None


def unanswered(store: HistoryStore, row: Row) -> tuple[Asker, ...]:
    """Return what was asked of a run, and has no answer yet."""
    return tuple(_asker(one) for one in _about(store, row) if one.answered_us is None and one.kind != "why")


def canceller(store: HistoryStore, row: Row) -> Asker | None:
    """Return who asked for a run to be cancelled, or for one that it is in."""
    for one in [row, *around(store, row)]:
        asked = [request for request in _about(store, one) if request.kind == "cancel"]
        if asked:
            return _asker(asked[-1])
    return None


def _about(store: HistoryStore, row: Row) -> list[RequestRow]:
    """Return what was asked about this very run; that may lie with a flow run around it, for which its process hears."""
    whom = [one.key for one in around(store, row)] or [row.key if isinstance(row, FlowRunRow) else addressee(row)]
    requests = sorted({one.key: one for key in whom for one in store.control().requests(key)}.items())
    return [one for _, one in requests if one.detail.get("run", one.run) == row.key]


def _asker(request: RequestRow) -> Asker:
    return Asker(request.kind, request.asked_by, request.asked)
