"""Values as trees that JSON can hold, and back: the form of what JSON has none for.

Lists, strings, finite numbers, True, False, None and dicts with string keys stand for themselves. Anything else is an object with two
members, `{"__class__": NAME, "data": ...}`. NAME is that of a type in the table below, or `module:qualified.name` of a pydantic model, a
dataclass, a named tuple, an enum or an exception.

Making a value again imports the module of such a class and accepts nothing but a class of one of these kinds. It sets what the value had
and calls neither constructors nor validators of the class, so no bytes can choose what is called.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from prefect_core.errors import SerializationError
from prefect_serializers.json_classes import object_to_tree, tree_to_object

TAG = "__class__"
DATA = "data"

_STANDING_FOR_THEMSELVES = frozenset({type(None), bool, int})
_HALVES = ("utf-8", "surrogatepass")


class _Form(NamedTuple):
    name: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def to_tree(value: Any) -> Any:
    """Return the value as what JSON can hold. Raises `TypeError` for what has no form."""
    kind = type(value)
    if kind in _STANDING_FOR_THEMSELVES:
        return value
    if kind is str and _is_text(value):
        return value
    if kind is float and math.isfinite(value):
        return value
    if kind is list:
        return [to_tree(item) for item in value]
    if kind is dict and TAG not in value and all(type(key) is str and _is_text(key) for key in value):
        return {key: to_tree(item) for key, item in value.items()}
    form = _FORMS.get(kind)
    if form is not None:
        return {TAG: form.name, DATA: form.write(value)}
    name, state = object_to_tree(value)
    return {TAG: name, DATA: to_tree(state)}


def from_tree(tree: Any) -> Any:
    """Make the value again. Raises `SerializationError` for what `to_tree` did not make."""
    if isinstance(tree, list):
        return [from_tree(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if TAG not in tree:
        return {key: from_tree(item) for key, item in tree.items()}
    name, data = tree[TAG], tree.get(DATA)
    if not isinstance(name, str) or tree.keys() != {TAG, DATA}:
        raise SerializationError(f"This is no value of ours: {TAG} stands beside {', '.join(tree)}.")
    try:
        form = _BY_NAME.get(name)
        return tree_to_object(name, from_tree(data)) if form is None else form.read(data)
    except (AttributeError, TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise SerializationError(f"This is no value of ours: no {name!r} can be made of its data ({error}).") from error


def _is_text(value: str) -> bool:
    """Tell whether the string is valid Unicode: JSON would make one character of two halves that stand side by side."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _trees(items: Any) -> list[Any]:
    return [to_tree(item) for item in items]


def _values(trees: Any) -> list[Any]:
    return [from_tree(tree) for tree in trees]


def _pairs(mapping: Any) -> list[Any]:
    return [[to_tree(key), to_tree(item)] for key, item in mapping.items()]


def _from_pairs(trees: Any) -> list[tuple[Any, Any]]:
    return [(from_tree(key), from_tree(item)) for key, item in trees]


def _zone(moment: Any) -> list[Any]:
    return [moment.replace(tzinfo=None, fold=0).isoformat(), moment.fold, to_tree(moment.tzinfo)]


def _in_zone(kind: Any) -> Callable[[Any], Any]:
    def read(data: Any) -> Any:
        text, fold, zone = data
        return kind.fromisoformat(text).replace(fold=fold, tzinfo=from_tree(zone))

    return read


def _zone_key(zone: ZoneInfo) -> str:
    if zone.key is None:
        raise TypeError("it is a time zone without a key")
    return zone.key


_FORMS: dict[type, _Form] = {
    float: _Form("float", repr, float),
    str: _Form(
        "str", lambda value: b64encode(value.encode(*_HALVES)).decode(), lambda data: b64decode(data).decode(*_HALVES)
    ),
    complex: _Form("complex", lambda value: _trees([value.real, value.imag]), lambda data: complex(*_values(data))),
    tuple: _Form("tuple", _trees, lambda data: tuple(_values(data))),
    set: _Form("set", _trees, lambda data: set(_values(data))),
    frozenset: _Form("frozenset", _trees, lambda data: frozenset(_values(data))),
    deque: _Form("deque", lambda value: [value.maxlen, _trees(value)], lambda data: deque(_values(data[1]), data[0])),
    dict: _Form("dict", _pairs, lambda data: dict(_from_pairs(data))),
    OrderedDict: _Form("OrderedDict", _pairs, lambda data: OrderedDict(_from_pairs(data))),
    range: _Form("range", lambda value: [value.start, value.stop, value.step], lambda data: range(*data)),
    bytes: _Form("bytes", lambda value: b64encode(value).decode(), lambda data: b64decode(data, validate=True)),
    bytearray: _Form(
        "bytearray", lambda value: b64encode(value).decode(), lambda data: bytearray(b64decode(data, validate=True))
    ),
    date: _Form("date", date.isoformat, date.fromisoformat),
    datetime: _Form("datetime", _zone, _in_zone(datetime)),
    time: _Form("time", _zone, _in_zone(time)),
    timedelta: _Form(
        "timedelta", lambda value: [value.days, value.seconds, value.microseconds], lambda data: timedelta(*data)
    ),
    timezone: _Form("timezone", lambda value: _trees(value.__getinitargs__()), lambda data: timezone(*_values(data))),
    ZoneInfo: _Form("ZoneInfo", _zone_key, ZoneInfo),
    Decimal: _Form("Decimal", str, Decimal),
    Fraction: _Form("Fraction", lambda value: [value.numerator, value.denominator], lambda data: Fraction(*data)),
    UUID: _Form("UUID", str, UUID),
    PosixPath: _Form("PosixPath", str, PosixPath),
    PurePosixPath: _Form("PurePosixPath", str, PurePosixPath),
    PureWindowsPath: _Form("PureWindowsPath", str, PureWindowsPath),
}
_BY_NAME = {form.name: form for form in _FORMS.values()}
