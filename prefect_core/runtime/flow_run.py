"""The flow run that this code is in, also from inside one of its tasks.

Outside of flows, `id` is that of the variable PREFECT_CORE__FLOW_RUN_ID, if it is set.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from typing import Any

from prefect_core.context import FlowRunContext
from prefect_core.runtime.attributes import Attribute, moment, value_of, whole_number

id: str | None
tags: list[str]
scheduled_start_time: datetime | None
name: str | None
flow_name: str | None
flow_version: str | None
parameters: dict[str, Any]
parent_flow_run_id: str | None
root_flow_run_id: str | None
run_count: int


def _of(find: Callable[[FlowRunContext], Any], otherwise: Callable[[], Any] = lambda: None) -> Callable[[], Any]:
    def value() -> Any:
        around = FlowRunContext.get()
        return find(around) if around is not None else otherwise()

    return value


def _parent_id(around: FlowRunContext) -> str | None:
    parent = around.flow_run.parent_flow_run_id
    return str(parent) if parent is not None else None


_ATTRIBUTES = {
    "id": Attribute(
        _of(lambda around: str(around.flow_run.id), lambda: os.environ.get("PREFECT_CORE__FLOW_RUN_ID")), str
    ),
    "tags": Attribute(_of(lambda around: sorted(around.flow_run.tags), list), None),
    "scheduled_start_time": Attribute(_of(lambda around: around.flow_run.expected_start_time), moment),
    "name": Attribute(_of(lambda around: around.flow_run.name), str),
    "flow_name": Attribute(_of(lambda around: around.flow_run.flow_name), str),
    "flow_version": Attribute(_of(lambda around: around.flow_run.flow_version), str),
    "parameters": Attribute(_of(lambda around: around.parameters, dict), None),
    "parent_flow_run_id": Attribute(_of(_parent_id), str),
    "root_flow_run_id": Attribute(_of(lambda around: str(around.flow_run.root.id)), str),
    "run_count": Attribute(_of(lambda around: around.flow_run.run_count, int), whole_number),
}

__all__ = [
    "flow_name",
    "flow_version",
    "id",
    "name",
    "parameters",
    "parent_flow_run_id",
    "root_flow_run_id",
    "run_count",
    "scheduled_start_time",
    "tags",
]


def __getattr__(name: str) -> Any:
    return value_of("flow_run", _ATTRIBUTES, name)


def __dir__() -> list[str]:
    return sorted(_ATTRIBUTES)
