"""Objects that are their class and their fields: dataclasses, attrs, pydantic models, namedtuples, members of an Enum.

All fields count, also those that a class leaves out of its own comparison: the recipe for a priority queue in Python's manual does that
with the very item. Attributes that are no fields count too; a value that `cached_property` remembers doesn't, since it follows.
"""

from __future__ import annotations

from functools import cached_property
from inspect import getattr_static
from types import MemberDescriptorType
from typing import Any

from prefect_core.encoding.named import name
from prefect_core.encoding.pieces import record, size, text
from prefect_core.encoding.refusals import Refusal
from prefect_core.encoding.walk import How, Walk

# Py_TPFLAGS_HEAPTYPE: what lacks it is written in C, and may have state of its own that no attribute shows.
_BY_CLASS_STATEMENT = 1 << 9


def of_fields(kind: Any, names: tuple[str, ...], word: str) -> How:
    """Return how instances of a dataclass or attrs class are encoded, which have these fields."""
    head = name(kind)
    for base in kind.__mro__[1:-1]:
        if not base.__flags__ & _BY_CLASS_STATEMENT:
            raise Refusal(kind, f"as a subclass of {base.__name__} it may hold more than its fields")
    further = _further_slots(kind, names)

    def encode(value: Any, walk: Walk) -> bytes:
        present = [(field, getattr(value, field)) for field in names if hasattr(value, field)]
        present += [(field, getattr(value, field)) for field in further if hasattr(value, field)]
        return record(word, head, walk.fields(present), walk.fields(_further(value, names)))

    return encode


def _further_slots(kind: Any, names: tuple[str, ...]) -> list[str]:
    """Return the slots that are no fields; attrs has them only for what `cached_property` remembers."""
    slots = {
        attribute
        for base in kind.__mro__
        if "__attrs_attrs__" not in vars(base)
        for attribute, member in vars(base).items()
        if isinstance(member, MemberDescriptorType)
    }
    return sorted(slots.difference(names))


def _further(value: Any, names: tuple[str, ...]) -> list[tuple[str, Any]]:
    attributes = getattr(value, "__dict__", None)
    if not attributes or attributes.keys() <= set(names):
        return []
    kind = type(value)
    return [
        (attribute, item)
        for attribute, item in sorted(attributes.items())
        if attribute not in names and not isinstance(getattr_static(kind, attribute, None), cached_property)
    ]


def of_namedtuple(kind: Any) -> How:
    """Return how instances of a namedtuple are encoded."""
    head = name(kind)
    names = kind._fields

    def encode(value: Any, walk: Walk) -> bytes:
        if getattr(value, "__dict__", None):
            raise Refusal(value, "as a subclass of tuple it holds more than its content")
        return record("namedtuple", head, walk.fields(list(zip(names, value, strict=True))))

    return encode


def of_enum(kind: Any) -> How:
    """Return how members of an Enum are encoded: by name, as whatever can be imported; flags, which can be combined, by number."""
    head = name(kind)

    def encode(member: Any, walk: Walk) -> bytes:
        if member.name is not None and kind.__members__.get(member.name) is member:
            return record("member", head, text(member.name))
        return record("flags", head, walk.part(member.value, ".value"))

    return encode


def of_model(kind: Any) -> How:
    """Return how pydantic models are encoded: fields and extra values, as `model_dump` gives them; private attributes are no data."""
    names = tuple(kind.model_fields)

    def encode(model: Any, walk: Walk) -> bytes:
        attributes = model.__dict__
        present = [(field, attributes[field]) for field in names if field in attributes]
        extra = sorted((getattr(model, "__pydantic_extra__", None) or {}).items())
        return record("model", _name_of_model(kind, walk), walk.fields(present), walk.fields(extra))

    return encode


def _name_of_model(kind: Any, walk: Walk) -> bytes:
    """Return the class's name; `Box[int]` is no name that could be imported, but `Box` and `int` are."""
    generic = getattr(kind, "__pydantic_generic_metadata__", None) or {}
    if generic.get("origin") is None:
        return size(0) + name(kind)
    return size(1) + _name_of_model(generic["origin"], walk) + walk.items(generic["args"])
