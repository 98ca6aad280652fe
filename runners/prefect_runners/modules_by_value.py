"""Modules with tasks that workers can't import: these travel by value for as long as a run lasts."""

from __future__ import annotations

import importlib
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import cloudpickle


class Modules:
    """The modules that functions of tasks are in. `is_missing` asks workers whether they lack one."""

    def __init__(self, is_missing: Callable[[str], bool]) -> None:
        self._is_missing = is_missing
        self._known: set[str] = {"__main__", "builtins"}
        self._lock = threading.Lock()
        self._by_value: list[str] = []

    def look_at(self, task: Any) -> bool:
        """Ask the workers for the module of a task's function, once for each module; True if it is to travel by value from now on."""
        module = getattr(task.fn, "__module__", None)
        if not isinstance(module, str) or module in self._known:
            return False
        with self._lock:
            if module in self._known:
                return False
            is_missing = module in sys.modules and self._is_missing(module)
            if is_missing:
                _travels_by_value(module)
                self._by_value.append(module)
            self._known.add(module)
            return is_missing

    def close(self) -> None:
        """Let modules travel by name again."""
        while self._by_value:
            _travels_by_name(self._by_value.pop())


def failures_of_imports(modules: Collection[str]) -> dict[str, str]:
    """Return what importing modules here raises, by module."""
    failures = {}
    for module in modules:
        try:
            importlib.import_module(module)
        except BaseException as error:
            failures[module] = f"{type(error).__name__}: {error}"
    return failures


_users: Counter[str] = Counter()
_lock = threading.Lock()


def _travels_by_value(module: str) -> None:
    with _lock:
        if not _users[module] and module in cloudpickle.list_registry_pickle_by_value():
            # Its user has asked for it, and is not to lose it behind us.
            _users[module] += 1
        if not _users[module]:
            cloudpickle.register_pickle_by_value(sys.modules[module])
        _users[module] += 1


def _travels_by_name(module: str) -> None:
    with _lock:
        _users[module] -= 1
        if not _users[module]:
            cloudpickle.unregister_pickle_by_value(sys.modules[module])
