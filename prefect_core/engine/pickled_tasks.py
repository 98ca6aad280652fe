"""Tasks as bytes: by their names where they can be imported, else by value, with the variables and globals that they refer to.

What is pickled by value is pickled once, and again only when one of those names stands for another object.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from prefect_core import clock, ids, options, pickling, unpicklable
from prefect_core.errors import SerializationError
from prefect_core.importable import found_by_name


class PickledTask(NamedTuple):
    """A task as it travels; workers that have it by its number need no bytes again."""

    number: int
    dumped: bytes
    references: list[tuple[Callable[[], Any], Any]]

    def is_fresh(self) -> bool:
        """Tell whether every name that the function refers to still stands for the same object."""
        return all(look_up() is value for look_up, value in self.references)


_tasks: WeakKeyDictionary[Any, PickledTask] = WeakKeyDictionary()


def new_number() -> int:
    """Return a number for something that workers keep."""
    # Workers of an executor may serve several processes, so the number is one among all.
    return ids.new_id(clock.now_us())


def pickled_task(task: Any) -> PickledTask:
    """Return a task as bytes, without its hooks and retries, which stay here. Raises `SerializationError` that says why it can't travel."""
    known = _tasks.get(task)
    if known is not None and known.is_fresh():
        return known
    is_importable = found_by_name(task) is task
    # Its hooks, retries and runner stay here. A task that is found by its name has those of its module.
    stripped = (
        task
        if is_importable
        else task.with_options(
            name=task.name,
            on_completion=None,
            on_failure=None,
            on_running=None,
            on_commit=None,
            on_rollback=None,
            cache_policy=None,
            cache_key_fn=None,
            retry_condition_fn=None,
            retry_delay_seconds=None,
            task_run_name=None,
            task_runner=None,
            isolation=None,
            resources=None,
            priority=None,
        )
    )
    try:
        dumped: bytes = pickling.dumps(stripped)
    except Exception as failure:
        what = unpicklable.described("its function", options.underlying(task.fn), failure, pickling.dumps)
        raise SerializationError(
            f"Task {task.name!r} can't be sent to another process: {what}. Make it inside the task, or pass it as an argument made there."
        ) from failure
    pickled = _tasks[task] = PickledTask(new_number(), dumped, [] if is_importable else _references(task.fn))
    return pickled


def forget(task: Any) -> None:
    """Have a task pickled anew: whether workers can import its module is known better now."""
    _tasks.pop(task, None)


def _references(function: Any) -> list[tuple[Callable[[], Any], Any]]:
    """Return how to look up each variable and global that functions pickled by value refer to, with what it stands for now."""
    found: list[tuple[Callable[[], Any], Any]] = []
    open_functions, seen = [options.underlying(function)], set()
    while open_functions:
        one = open_functions.pop()
        if not isinstance(one, FunctionType) or one in seen or found_by_name(one) is one:
            continue
        seen.add(one)
        for look_up in _look_ups(one):
            value = look_up()
            found.append((look_up, value))
            further = getattr(value, "fn", value) if hasattr(type(value), "with_options") else value
            open_functions.append(
                options.underlying(further) if callable(further) and not inspect.isclass(further) else further
            )
    return found


def _look_ups(function: FunctionType) -> list[Callable[[], Any]]:
    cells: list[Callable[[], Any]] = [_of_cell(cell) for cell in function.__closure__ or ()]
    globals_ = function.__globals__
    return cells + [_of_global(globals_, name) for name in _names_in(function.__code__) if name in globals_]


def _of_cell(cell: Any) -> Callable[[], Any]:
    def look_up() -> Any:
        try:
            return cell.cell_contents
        except ValueError:
            return None

    return look_up


def _of_global(globals_: dict[str, Any], name: str) -> Callable[[], Any]:
    return lambda: globals_.get(name)


@lru_cache(maxsize=1024)
def _names_in(code: CodeType) -> frozenset[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names_in(constant)
    return frozenset(names)
