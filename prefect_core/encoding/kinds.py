"""Which types are encoded and how: decided once per type, by its name, without importing anything."""

from __future__ import annotations

import types
from collections.abc import Callable
from enum import EnumMeta
from functools import partial
from typing import Any

from prefect_core.encoding import arrays, arrow, builtin, fields, frames, named
from prefect_core.encoding.pieces import ATOMS, record, text
from prefect_core.encoding.refusals import Refusal
from prefect_core.encoding.walk import How, Walk
from prefect_core.importable import standing_at

# A decision is made again past this many: types made at run time come and go.
_MOST_TYPES = 5_000

_CALLABLES: dict[type, How] = {
    types.FunctionType: named.by_function,
    types.MethodType: named.by_method,
    partial: named.by_partial,
}


class Hows(dict[type, How]):
    """How each type that was met is encoded. Refusals are not kept: a class may stand under its name a moment later."""

    def __missing__(self, kind: type) -> How:
        try:
            how = _decide(kind)
        except Refusal as refusal:
            refusal.kind = kind
            raise
        if len(self) > _MOST_TYPES:
            self.clear()
        self[kind] = how
        return how


HOWS = Hows()


def _decide(kind: type) -> How:
    if kind in _CALLABLES:
        return _CALLABLES[kind]
    how = _LIBRARIES.get(kind.__module__.partition(".")[0], _no_decision)(kind) or _of_standard_library(kind)
    if how is not None:
        return how
    if isinstance(kind, EnumMeta):
        return fields.of_enum(kind)
    if issubclass(kind, type):
        return named.by_name
    if issubclass(kind, tuple) and hasattr(kind, "_fields") and hasattr(kind, "_make"):
        return fields.of_namedtuple(kind)
    _refuse_extended(kind)
    return _of_declared(kind) or _by_own_name


def _of_standard_library(kind: type) -> How | None:
    # pathlib's classes say that they live in pathlib._local on Python 3.13.
    module_name = kind.__module__.removesuffix("._local")
    how = builtin.BY_NAME.get(f"{module_name}.{kind.__qualname__}")
    return how if how is not None and standing_at(module_name, kind.__qualname__) in {kind, None} else None


def _refuse_extended(kind: type) -> None:
    """Refuse a subclass of something that has content of its own: the subclass may keep more, and elsewhere."""
    for base in kind.__mro__[1:]:
        if base in ATOMS or _of_standard_library(base) is not None:
            raise Refusal(kind, f"as a subclass of {base.__name__} it may hold more than its content")


def _of_declared(kind: Any) -> How | None:
    if hasattr(kind, "__pydantic_fields_set__") and hasattr(kind, "model_fields"):
        return fields.of_model(kind)
    if hasattr(kind, "__dataclass_fields__"):
        # ClassVar and InitVar stand there too.
        names = [name for name, field in kind.__dataclass_fields__.items() if field._field_type.name == "_FIELD"]
        return fields.of_fields(kind, tuple(names), "dataclass")
    if hasattr(kind, "__attrs_attrs__"):
        return fields.of_fields(kind, tuple(attribute.name for attribute in kind.__attrs_attrs__), "attrs")
    return None


def _by_own_name(value: Any, walk: Walk) -> bytes:
    """Encode a flow, a task, a built-in function, or any other thing that is what its name says."""
    try:
        return named.by_name(value, walk)
    except Refusal as refusal:
        reason = _WHY.get(type(value))
        raise refusal if reason is None else Refusal(value, reason) from None


_ONCE = "it can be read only once"
_WHY: dict[type, str] = {
    types.GeneratorType: _ONCE,
    types.AsyncGeneratorType: _ONCE,
    types.CoroutineType: _ONCE,
    types.ModuleType: "a module is no data",
}


def _of_pydantic_value(kind: type) -> How | None:
    """Decide on the values of pydantic's own types, which stand in the fields of models."""
    if hasattr(kind, "unicode_string") or kind.__name__ in {"Url", "MultiHostUrl"}:
        return lambda value, _walk: record("url", text(kind.__name__), text(str(value)))
    if hasattr(kind, "get_secret_value"):
        return lambda value, walk: record("secret", text(kind.__name__), walk.encode(value.get_secret_value()))
    return None


def _of_pytz(kind: type) -> How | None:
    return lambda value, _walk: record("pytz", text(repr(value)))


def _no_decision(kind: type) -> How | None:
    return None


_LIBRARIES: dict[str, Callable[[type], How | None]] = {
    "numpy": arrays.decide,
    "pandas": frames.decide,
    "pyarrow": arrow.decide,
    "polars": arrow.decide_polars,
    "pydantic": _of_pydantic_value,
    "pydantic_core": _of_pydantic_value,
    "pytz": _of_pytz,
}
