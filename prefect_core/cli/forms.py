"""The form that rows of the history have in JSON. Keys are stable: later versions add some and rename none."""

from __future__ import annotations

import json
from typing import Any

from prefect_core.cli.output import iso
from prefect_core.errors import ObjectNotFound
from prefect_core.history.rows import AttemptRow, FlowRow, FlowRunRow, StateRow, TaskRunRow
from prefect_core.history.store import HistoryStore
from prefect_core.history.stored import ReopeningRow, ResultRow

Form = dict[str, Any]


class Forms:
    """Makes forms of rows that name other rows, whose identifiers it looks up in a store."""

    def __init__(self, store: HistoryStore) -> None:
        self._store = store
        self._known: dict[tuple[str, int], str | None] = {}
        self._processes: dict[int, str | None] = {}

    def flow_run(self, row: FlowRunRow) -> Form:
        """Return the form of a flow run."""
        return {
            "id": str(row.id),
            "name": row.name,
            "flow_name": row.flow_name,
            "flow_version": row.flow_version,
            "entrypoint": row.entrypoint,
            "task_runner": row.runner,
            "parameters": row.parameters,
            "parent_flow_run_id": self.flow_run_id(row.parent_flow_run),
            "parent_task_run_id": self.task_run_id(row.parent_task_run),
            "infrastructure_pid": self.infrastructure_pid(row),
            **_course(row),
        }

    def infrastructure_pid(self, row: FlowRunRow) -> str | None:
        """Return where a flow run runs or ran last, `host:pid`: the scope, and the number in it; None if that is not known."""
        control = self._store.control()
        number = control.owner(row.key)
        if number not in self._processes:
            process = control.process(number)
            self._processes[number] = f"{process.host}:{process.pid}" if process is not None else None
        return self._processes[number]

    def task_run(self, row: TaskRunRow) -> Form:
        """Return the form of a task run."""
        return {
            "id": str(row.id),
            "name": row.name,
            "task_name": row.task_name,
            "task_key": row.task_key,
            "index": row.index,
            "flow_run_id": self.flow_run_id(row.flow_run),
            "parent_task_run_id": self.task_run_id(row.parent_task_run),
            "child_flow_run_id": self.flow_run_id(row.child_flow_run),
            "inputs": [{"parameter": one.parameter, "kind": one.kind, "id": str(one.id)} for one in row.inputs],
            "worker": row.worker,
            **_course(row),
        }

    def flow_run_id(self, key: int | None) -> str | None:
        """Return the identifier of the flow run with a key; None if there is no such row any more."""
        return self._id("flow_run", key)

    def task_run_id(self, key: int | None) -> str | None:
        """Return the identifier of the task run with a key; None if there is no such row any more."""
        return self._id("task_run", key)

    def _id(self, kind: str, key: int | None) -> str | None:
        if key is None:
            return None
        if (kind, key) not in self._known:
            try:
                found = self._store.flow_run(key) if kind == "flow_run" else self._store.task_run(key)
                self._known[kind, key] = str(found.id)
            except ObjectNotFound:
                self._known[kind, key] = None
        return self._known[kind, key]


def _course(row: FlowRunRow | TaskRunRow) -> Form:
    return {
        "tags": list(row.tags),
        "created": iso(row.created),
        "started": iso(row.started),
        "ended": iso(row.ended),
        "duration_seconds": row.duration_seconds,
        "run_count": row.run_count,
        "state": {
            "type": row.state_type,
            "name": row.state_name,
            "message": row.state_message,
            "timestamp": iso(row.state_timestamp),
        },
    }


def state(row: StateRow) -> Form:
    """Return the form of one state of a run."""
    return {
        "attempt": row.attempt,
        "type": row.type,
        "name": row.name,
        "message": row.message,
        "timestamp": iso(row.timestamp),
        "details": json.loads(row.details_text or "{}"),
    }


def attempt(row: AttemptRow) -> Form:
    """Return the form of one attempt of a run."""
    return {
        "attempt": row.attempt,
        "started": iso(row.started),
        "ended": iso(row.ended),
        "state": {"type": row.state_type, "name": row.state_name},
        "worker": row.worker,
    }


def reopening(row: ReopeningRow) -> Form:
    """Return the form of one time that a flow run was let run again."""
    return {"attempt": row.attempt, "at": iso(row.at), "asked_by": row.asked_by}


def result(row: ResultRow) -> Form:
    """Return the form of a stored result, without who refers to it."""
    return {
        "serializer": row.serializer,
        "storage": row.storage,
        "object": row.object,
        "bytes": row.size,
        "sha256": row.sha256.hex(),
        "created": iso(row.created),
    }


def flow(row: FlowRow) -> Form:
    """Return the form of a flow."""
    return {
        "name": row.name,
        "runs": row.runs,
        "last_run": {
            "name": row.last_run,
            "created": iso(row.last_created),
            "state": {"type": row.last_state_type, "name": row.last_state_name},
        },
    }
