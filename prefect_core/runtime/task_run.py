"""The task run that this code is in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect_core.context import TaskRunContext
from prefect_core.runtime.attributes import Attribute, value_of, whole_number
from prefect_core.stored import loaded

id: str | None
tags: list[str]
name: str | None
parameters: dict[str, Any]
run_count: int
task_name: str | None


def _of(find: Callable[[TaskRunContext], Any], otherwise: Callable[[], Any] = lambda: None) -> Callable[[], Any]:
    def value() -> Any:
        around = TaskRunContext.get()
        return find(around) if around is not None else otherwise()

    return value


_ATTRIBUTES = {
    "id": Attribute(_of(lambda around: str(around.task_run.id)), str),
    "tags": Attribute(_of(lambda around: sorted(around.task_run.tags), list), None),
    "name": Attribute(_of(lambda around: around.task_run.name), str),
    "parameters": Attribute(_of(lambda around: loaded(around.parameters), dict), None),
    "run_count": Attribute(_of(lambda around: around.task_run.run_count, int), whole_number),
    "task_name": Attribute(_of(lambda around: around.task_run.task_name), str),
}

__all__ = ["id", "name", "parameters", "run_count", "tags", "task_name"]


def __getattr__(name: str) -> Any:
    return value_of("task_run", _ATTRIBUTES, name)


def __dir__() -> list[str]:
    return sorted(_ATTRIBUTES)
