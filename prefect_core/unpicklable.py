"""Finding what in a value can't be turned into bytes, so that an error can name it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

Attempt = Callable[[Any], object]
"""Turns a value into bytes, or raises: how it is tried whether a part is what fails."""

_MOST_TRIES = 500
_DEEPEST = 20


def described(path: str, value: Any, failure: Exception, attempt: Attempt) -> str:
    """Say what in `value`, which `path` names, can't be turned into bytes; `failure` is what trying it raised."""
    path, culprit, failure = _Search(attempt).innermost(path, value, failure, 0)
    name = type_name(culprit)
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    return f"{path} is {article} {name} ({type(failure).__name__}: {failure})"


def type_name(value: Any) -> str:
    """Return the name of the value's type, with its module unless it is a built-in one."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def failure_of(value: Any, attempt: Attempt) -> Exception | None:
    """Return what turning the value into bytes raises, if it does."""
    try:
        attempt(value)
    except Exception as failure:
        return failure
    return None


class _Search:
    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._tries = 0

    def innermost(self, path: str, value: Any, failure: Exception, depth: int) -> tuple[str, Any, Exception]:
        """Return the deepest part that fails by itself, as far as its parts can be looked at."""
        if depth < _DEEPEST:
            for further, part in _parts(value):
                self._tries += 1
                if self._tries > _MOST_TRIES:
                    break
                inner = failure_of(part, self._attempt)
                if inner is not None:
                    return self.innermost(path + further, part, inner, depth + 1)
        return path, value, failure


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"[{key!r}]", item
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif isinstance(value, set | frozenset):
        for item in value:
            yield "{...}", item
    elif isinstance(value, FunctionType):
        yield from _variables(value)
    elif not inspect.isclass(value) and type(value).__module__.partition(".")[0] not in sys.stdlib_module_names:
        # What the standard library's own objects consist of says nothing to their user.
        for name, item in getattr(value, "__dict__", {}).items():
            yield f".{name}", item


def _variables(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a function that is pickled by value takes along."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"'s variable {name!r}", cell.cell_contents
        except ValueError:
            # The variable has no value yet.
            continue
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield f"'s global {name!r}", function.__globals__[name]
