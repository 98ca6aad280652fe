"""What is sent, as bytes: JSON where that gives the value back as it was, else a pickle; and the channel that its type has.

JSON comes from the type of the value, as pydantic reads it, so a model or a dataclass fits whoever wants one of the same name and fields,
though that class was made in another file. It is taken only if it gives the same value, down to the types in it: a list keeps its tuples,
a number its enumeration, and a moment its time zone, by being pickled.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import timezone
from functools import lru_cache
from inspect import isabstract
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, is_typeddict

from pydantic import BaseModel, TypeAdapter

from prefect_core import pickling, settings, unpicklable
from prefect_core.errors import SerializationError, describe
from prefect_core.input_forms import Form, InvalidInput


class Content(NamedTuple):
    """A value on its way."""

    data: bytes
    is_pickled: bool


def packed(value: Any) -> Content:
    """Return a value as bytes. Raises `SerializationError` for one that can't be pickled either, `ValueError` for one that is too large."""
    text = _json(value)
    content = Content(text, is_pickled=False) if text is not None else Content(_pickle(value), is_pickled=True)
    limit = settings.current().max_parameter_bytes
    if limit and len(content.data) > limit:
        raise ValueError(
            f"An input must be no more than {limit:,} bytes when serialized (got {len(content.data):,} bytes): send a reference to the "
            "data, such as a path, and load it in the flow."
        )
    return content


def unpacked(content: Content, form: Form) -> Any:
    """Return what a value is to whoever wants `form`. Raises `InvalidInput` for one that does not fit, or can't be loaded here."""
    if not content.is_pickled:
        return form.of_json(content.data.decode())
    if settings.current().results_json_only:
        raise InvalidInput(
            "JSON does not hold it. It is a pickle, which may run code when it is loaded, and the setting results_json_only allows only "
            "what can't."
        )
    try:
        value = pickle.loads(content.data)
    except Exception as error:
        raise InvalidInput(f"It can't be loaded here: {describe(error)}") from error
    return form.of_value(value)


def _json(value: Any) -> bytes | None:
    """Return a value as JSON; None if that does not hold it."""
    kind: Any = type(value)
    try:
        adapter = _adapter(kind)
        text = adapter.dump_json(value, by_alias=True, round_trip=True, warnings=False)
        return text if _is_same(value, adapter.validate_json(text)) else None
    except Exception:
        # Whatever keeps pydantic from it, the value's own code included: there is another way.
        return None


@lru_cache(maxsize=128)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _is_same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, BaseModel):
        return _is_same(_contents(one), _contents(other))
    if is_dataclass(one):
        return all(_is_same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if isinstance(one, dict):
        return _is_same([*one.items()], [*other.items()])
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, set | frozenset):
        return {(type(item), item) for item in one} == {(type(item), item) for item in other}
    zone = getattr(one, "tzinfo", None)
    return bool(one == other) and isinstance(zone, timezone | None)


def _contents(model: BaseModel) -> dict[str, Any]:
    return {**model.__dict__, **(model.__pydantic_extra__ or {})}


def _pickle(value: Any) -> bytes:
    # The fields of a model alone: the class that is wanted is the receiver's.
    sent = _by_key(value) if isinstance(value, BaseModel) else value
    try:
        return pickling.dumps(sent)
    except Exception as failure:
        what = unpicklable.described("run_input", value, failure, pickling.dumps)
        raise SerializationError(f"The input can't be sent: {what}.") from failure


def _by_key(model: BaseModel) -> Mapping[str, Any]:
    """Return the fields of a model under the names that it is made by."""
    known = type(model).model_fields
    keys = {name: info.validation_alias for name, info in known.items() if isinstance(info.validation_alias, str)}
    return {keys.get(name, name): value for name, value in _contents(model).items()}


def channel_of(kind: type) -> str:
    """Return the channel of values of a class: its name, as in Prefect."""
    return f"{kind.__name__.lower()}-auto"


def channels_of(wanted: Any) -> frozenset[str]:
    """Return the channels of the values of a type. Raises `TypeError` for one that says nothing of the classes of its values."""
    origin = get_origin(wanted) or wanted
    if origin is None:
        return frozenset({channel_of(NoneType)})
    if origin in (Union, UnionType):
        return frozenset().union(*map(channels_of, get_args(wanted)))
    if origin is Annotated:
        return channels_of(get_args(wanted)[0])
    if origin is Literal:
        return frozenset(channel_of(type(value)) for value in get_args(wanted))
    if is_typeddict(origin):
        return frozenset({channel_of(dict)})
    # Of a type that was given another name.
    inner = getattr(origin, "__supertype__", None) or getattr(origin, "__value__", None)
    if inner is not None:
        return channels_of(inner)
    if not isinstance(origin, type) or origin in (Any, object) or isabstract(origin):
        raise TypeError(
            f"Inputs are received by the name of their class, and {wanted!r} names none. Name classes, or give a key_prefix, here and "
            "where they are sent."
        )
    is_model = isinstance(wanted, type) and issubclass(wanted, BaseModel)
    return frozenset({channel_of(wanted if is_model else origin)})
