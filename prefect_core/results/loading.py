"""Reading a stored result back, of a run that any process completed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect_core import history
from prefect_core.errors import MissingResult, ObjectDamaged, ObjectMissing, ObjectNotFound, describe
from prefect_core.history.verdicts import DROPPED
from prefect_core.results.kept import KeptValue
from prefect_core.state_kinds import COMPLETED

if TYPE_CHECKING:
    from prefect_core.history import HistoryStore
    from prefect_core.history.rows import FlowRunRow, TaskRunRow


def load_result(run_id: UUID | str) -> Any:
    """Return the stored value of a completed task run or flow run, given its id.

    Loading a pickle is loading code: only read from histories and storages that you trust, or set `results_json_only`. Raises
    `ObjectNotFound` if there is no such run, `MissingResult` if it has no value that could be had, `StorageError` if the storage can't
    be read, and what its serializer raises.
    """
    with history.reading() as store:
        run = _find(store, run_id)
        kept = store.kept(run.key) if run.state_type == COMPLETED.value else None
        if kept is None:
            raise MissingResult(f"There is no result of {run.name} ({run.id}): {_why_none(store, run)}")
        try:
            return KeptValue.of_row(kept.result).load()
        except (ObjectMissing, ObjectDamaged) as error:
            raise MissingResult(
                f"The stored result of {run.name} ({run.id}) can't be had any more: {describe(error)}"
            ) from error


def _find(store: HistoryStore, run_id: UUID | str) -> FlowRunRow | TaskRunRow:
    try:
        full_id = str(run_id if isinstance(run_id, UUID) else UUID(run_id))
    except (ValueError, TypeError, AttributeError) as error:
        raise ObjectNotFound(
            f"Expected the id of a run, such as state.state_details.task_run_id; got {run_id!r}."
        ) from error
    try:
        return store.task_run(full_id)
    except ObjectNotFound:
        with suppress(ObjectNotFound):
            return store.flow_run(full_id)
    raise ObjectNotFound(f"The history holds no run with id {full_id}.")


def _why_none(store: HistoryStore, run: FlowRunRow | TaskRunRow) -> str:
    if run.state_type != COMPLETED.value:
        return f"it is {run.state_name}, and only runs that completed have one."
    dropped = [verdict for verdict in store.verdicts(run.key) if verdict.verdict == DROPPED]
    if dropped:
        return f"it was dropped on {dropped[-1].at.astimezone():%Y-%m-%d %H:%M:%S}, {dropped[-1].reason}."
    return "none was stored. persist_result=True on the task or flow, or the setting results_persist_by_default, stores it."
