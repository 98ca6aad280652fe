"""The digest of a function's code: what it does, and not where it is written."""

from __future__ import annotations

from types import CodeType
from typing import Any

from prefect_core.encoding.kinds import HOWS
from prefect_core.encoding.named import name
from prefect_core.encoding.pieces import record
from prefect_core.encoding.walk import Walk
from prefect_core.importable import underlying


def of_code(function: Any) -> bytes:
    """Return what stands for the code of a function and of all that it wraps; for one without code, its name. Raises `Refusal`."""
    layers: list[bytes] = []
    inner, seen = function, set[int]()
    while inner is not None and id(inner) not in seen:
        seen.add(id(inner))
        inner = inner.fn if hasattr(inner, "with_options") and hasattr(inner, "fn") else inner
        plain = inner if hasattr(inner, "__wrapped__") else underlying(inner)
        code = getattr(plain, "__code__", None)
        if code is not None:
            layers.append(_piece(code))
        inner = getattr(plain, "__wrapped__", None)
    return record("code", *layers) if layers else record("no code", name(underlying(function)))


def _piece(code: CodeType) -> bytes:
    walk = Walk(_nested, HOWS)
    constants = code.co_consts
    if "__firstlineno__" in code.co_names:
        # From Python 3.13 on, the body of a class stores the line it stands in.
        constants = tuple(None if type(one) is int and one == code.co_firstlineno else one for one in constants)
    return walk.encode(
        (
            code.co_code,
            code.co_exceptiontable,
            constants,
            code.co_names,
            code.co_varnames,
            code.co_freevars,
            code.co_cellvars,
            (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
        )
    )


def _nested(value: object) -> bytes | None:
    return _piece(value) if isinstance(value, CodeType) else None
