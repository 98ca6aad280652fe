"""Objects of importable classes as plain state, and back: pydantic models, dataclasses, named tuples, enums, exceptions."""

from __future__ import annotations

import dataclasses
import sys
from enum import Enum, Flag
from functools import reduce
from importlib import import_module
from inspect import getattr_static
from types import MemberDescriptorType
from typing import Any

from prefect_core.errors import SerializationError
from prefect_core.module_names import module_name_of


def object_to_tree(value: Any) -> tuple[str, Any]:
    """Return the name of the value's class, and what makes the value again. Raises `TypeError` for objects of other kinds."""
    kind = type(value)
    state: Any
    if isinstance(value, BaseException):
        state = _state_of_exception(value)
    elif isinstance(value, Enum):
        state = value.value if isinstance(value, Flag) else value.name
    elif _is_model(kind):
        state = _model_base(kind).__getstate__(value)
    elif dataclasses.is_dataclass(kind):
        object.__new__(kind)  # raises for one that is also a list, a str ...
        state = _state_of_dataclass(value)
    elif _is_named_tuple(kind):
        state = list(value)
    else:
        raise TypeError("JSON has no form for it")
    return _name_of(kind), state


def tree_to_object(name: str, state: Any) -> Any:
    """Make the object again. Raises `SerializationError`, also for a class of another kind, and `TypeError` or the like for bad state."""
    kind = _class_named(name)
    if issubclass(kind, BaseException):
        return _exception(kind, state)
    if issubclass(kind, Enum):
        return _flag(kind, state) if issubclass(kind, Flag) else kind.__members__[state]
    if _is_model(kind):
        return _model(kind, state)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, state)
    if _is_named_tuple(kind):
        return _tuple_of(kind, state)
    raise SerializationError(
        f"{name!r} is no pydantic model, dataclass, named tuple, enum or exception: JSON brings back nothing else."
    )


def _name_of(kind: type) -> str:
    module, name = module_name_of(kind), kind.__qualname__
    found: Any = sys.modules.get(module)
    try:
        found = reduce(getattr, name.split("."), found)
    except AttributeError:
        found = None
    if found is not kind:
        raise TypeError(f"its class can't be imported as {module}.{name}")
    return f"{module}:{name}"


def _class_named(name: str) -> type:
    module, _, qualified = name.partition(":")
    try:
        found = reduce(getattr, qualified.split("."), sys.modules.get(module) or import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise SerializationError(f"The class {name!r} can't be imported: {error}.") from error
    if not isinstance(found, type):
        raise SerializationError(f"{name!r} is no class.")
    return found


def _is_model(kind: type) -> bool:
    # Without asking for pydantic, which is loaded if there are models.
    return any(base.__module__ == "pydantic.main" and base.__name__ == "BaseModel" for base in kind.__mro__)


def _model_base(kind: type) -> Any:
    """Return the class of pydantic whose own methods know the state, whatever the user's class makes of them."""
    return next(
        base
        for base in kind.__mro__
        if base.__module__ in {"pydantic.main", "pydantic.root_model"} and "__getstate__" in vars(base)
    )


def _model(kind: Any, state: dict[str, Any]) -> Any:
    _check_fields(kind, set(kind.model_fields), state["__dict__"])
    model = object.__new__(kind)
    _model_base(kind).__setstate__(model, state)
    return model


def _state_of_dataclass(value: Any) -> dict[str, Any]:
    missing = object()
    fields = {field.name: getattr(value, field.name, missing) for field in dataclasses.fields(value)}
    return {name: item for name, item in fields.items() if item is not missing} | getattr(value, "__dict__", {})


def _dataclass(kind: Any, state: dict[str, Any]) -> Any:
    _check_fields(kind, {field.name for field in dataclasses.fields(kind) if field.init}, state)
    made = object.__new__(kind)
    for name, item in state.items():
        slot = getattr_static(kind, name, None)
        # Never through setattr, which might be a property of the class.
        if isinstance(slot, MemberDescriptorType):
            slot.__set__(made, item)
        else:
            made.__dict__[name] = item
    return made


def _check_fields(kind: type, fields: set[str], state: dict[str, Any]) -> None:
    missing = sorted(fields - state.keys())
    if missing:
        raise SerializationError(
            f"{kind.__module__}.{kind.__qualname__} has changed since this value was stored: the value has no {', '.join(missing)}."
        )


def _flag(kind: Any, value: int) -> Any:
    # Several members at once are one that the base class makes; the user's own way to make members is not called.
    known = kind._value2member_map_.get(value)
    return vars(Flag)["_missing_"].__func__(kind, value) if known is None else known


def _is_named_tuple(kind: type) -> bool:
    return issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple)


def _tuple_of(kind: Any, items: list[Any]) -> Any:
    return tuple.__new__(kind, items)


def _built_in_base(kind: type) -> Any:
    return next(base for base in kind.__mro__ if base.__module__ == "builtins")


def _state_of_exception(error: BaseException) -> dict[str, Any]:
    # The constructor of the user's class may want other arguments than these, so it is not called when the exception is made again.
    _, args, *rest = _built_in_base(type(error)).__reduce__(error)
    state = dict(rest[0] or {}) if rest else {}
    if isinstance(error, AttributeError | NameError):
        # Where the name was looked for: any object at all, which only helps to guess what was meant.
        state.pop("obj", None)
    return {"args": list(args), "state": state}


def _exception(kind: Any, state: dict[str, Any]) -> BaseException:
    base, args = _built_in_base(kind), state["args"]
    error: BaseException = base.__new__(kind, *args)
    base.__init__(error, *args)
    for name, item in state["state"].items():
        slot = getattr_static(base, name, None)
        # ImportError keeps its name and path in fields of C; what the user's class added lies in the dict.
        if hasattr(slot, "__set__"):
            slot.__set__(error, item)
        else:
            error.__dict__[name] = item
    return error
