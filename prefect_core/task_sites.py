"""What tells one task from another where the cache looks: its name, and what lies beyond the name.

The code of a lambda or a local function joins it, with what the function closed over *when the task was made*: a factory that makes a
task for each of several numbers makes different tasks, while a list or a counter that the function itself changes does not make it another
task at every call. What a closed-over object has no encoding for, such as a client or a logger, counts by its type. What a
method, a partial or a callable object is bound to joins at each call, as it is then, since the value depends on it as on an argument.
"""

from __future__ import annotations

import inspect
from functools import partial
from hashlib import sha256
from types import FunctionType
from typing import Any

from prefect_core import encoding
from prefect_core.errors import NotEncodable
from prefect_core.identity import has_name
from prefect_core.importable import underlying


def closure_of(function: Any) -> bytes:
    """Return a digest of what a lambda or local function closes over now; nothing for others."""
    plain = underlying(function)
    is_local = isinstance(plain, FunctionType) and "<" in plain.__qualname__
    return _digest(_closed_over(plain, frozenset())) if is_local and plain.__closure__ else b""


def _closed_over(function: FunctionType, around: frozenset[int]) -> list[bytes]:
    inside = around | {id(function)}

    def special(thing: object) -> bytes | None:
        plain = underlying(getattr(thing, "fn", thing)) if callable(thing) else None
        if not isinstance(plain, FunctionType) or "<" not in plain.__qualname__:
            return None
        # What refers to itself says so in its code.
        return b"" if id(plain) in inside else _digest([encoding.code_digest(plain), *_closed_over(plain, inside)])

    return [_state_of(cell, special) for cell in function.__closure__ or ()]


def _state_of(cell: Any, special: Any) -> bytes:
    try:
        value = cell.cell_contents
    except ValueError:
        return b"empty"
    try:
        return encoding.digest(value, special)
    except NotEncodable:
        kind = type(value)
        return _digest([kind.__module__.encode(), kind.__qualname__.encode()])


def site_of(task: Any) -> str:
    """Return what no other task has. Raises `NotEncodable` if what its function is bound to can't be encoded."""
    parts = [task.task_key.encode("utf-8", "surrogatepass")]
    function = task.fn
    while not isinstance(function, FunctionType):
        if isinstance(function, partial):
            parts += [b"partial", encoding.digest((function.args, function.keywords))]
            function = function.func
        elif inspect.ismethod(function):
            parts += [b"method", encoding.digest(function.__self__)]
            function = function.__func__
        elif isinstance(function, staticmethod | classmethod):
            function = function.__func__
        elif inspect.isroutine(function) or inspect.isclass(function):
            return _digest(parts).hex()
        else:
            parts += [b"object", encoding.digest(function)]
            function = type(function).__call__
    if not has_name(function):
        parts += [encoding.code_digest(function), task.closure]
    return _digest(parts).hex()


def _digest(parts: list[bytes]) -> bytes:
    return sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()
