"""Containers and plain values of the standard library."""

from __future__ import annotations

from collections.abc import Callable
from sys import byteorder
from typing import Any

from prefect_core.encoding.pieces import ATOMS, DICT, FROZENSET, LIST, SET, TUPLE, record, size, sized, text
from prefect_core.encoding.refusals import Refusal
from prefect_core.encoding.walk import How, Walk
from prefect_core.errors import shown


def of_list(value: list[Any], walk: Walk) -> bytes:
    return LIST + walk.items(value)


def of_tuple(value: tuple[Any, ...], walk: Walk) -> bytes:
    return TUPLE + walk.items(value)


def of_set(value: set[Any], walk: Walk) -> bytes:
    return SET + _members(value, walk)


def of_frozenset(value: frozenset[Any], walk: Walk) -> bytes:
    return FROZENSET + _members(value, walk)


def _members(value: set[Any] | frozenset[Any], walk: Walk) -> bytes:
    pieces = sorted(walk.part(item, "{element}") for item in value)
    return size(len(pieces)) + b"".join(pieces)


def of_dict(value: dict[Any, Any], walk: Walk) -> bytes:
    """Equal dicts may differ in their order, so the order of the pieces counts."""
    return DICT + _entries(sorted(_pairs(value, walk)))


def of_ordered_dict(value: dict[Any, Any], walk: Walk) -> bytes:
    return record("OrderedDict", _entries(_pairs(value, walk)))


def of_default_dict(value: Any, walk: Walk) -> bytes:
    return record("defaultdict", walk.part(value.default_factory, ".default_factory"), of_dict(value, walk))


def of_counter(value: dict[Any, Any], walk: Walk) -> bytes:
    return record("Counter", of_dict(value, walk))


def _pairs(value: dict[Any, Any], walk: Walk) -> list[bytes]:
    pairs = []
    for key, item in value.items():
        atom = ATOMS.get(type(key))
        name = walk.part(key, "{key}") if atom is None else atom(key)
        try:
            atom = ATOMS.get(type(item))
            pairs.append(name + (walk.encode(item) if atom is None else atom(item)))
        except Refusal as refusal:
            refusal.within(f"[{shown(key, 60)}]")
            raise
    return pairs


def _entries(pairs: list[bytes]) -> bytes:
    return size(len(pairs)) + b"".join(pairs)


def of_deque(value: Any, walk: Walk) -> bytes:
    return record("deque", walk.encode(value.maxlen), walk.items(list(value)))


def of_namespace(value: Any, walk: Walk) -> bytes:
    return record("SimpleNamespace", walk.fields(sorted(vars(value).items())))


def of_range(value: range, walk: Walk) -> bytes:
    """As `==` has it, ranges are equal if they hold the same numbers."""
    length = (value.stop - value.start + value.step - (1 if value.step > 0 else -1)) // value.step
    if length <= 0:
        return record("range")
    return record("range", *map(walk.encode, (length, value.start, value.step if length > 1 else 1)))


def of_slice(value: slice, walk: Walk) -> bytes:
    return record("slice", *map(walk.encode, (value.start, value.stop, value.step)))


def of_memoryview(value: memoryview, walk: Walk) -> bytes:
    order = "" if value.itemsize == 1 else byteorder
    content = sized(b"b", value if value.c_contiguous and value.ndim == 1 and value.itemsize == 1 else value.tobytes())
    return record("memoryview", text(value.format + order), walk.items(value.shape or ()), content)


def of_datetime(value: Any, walk: Walk) -> bytes:
    local = value.replace(tzinfo=None).isoformat()
    return record("datetime", text(local), walk.encode(value.fold), walk.part(value.tzinfo, ".tzinfo"))


def of_time(value: Any, walk: Walk) -> bytes:
    local = value.replace(tzinfo=None).isoformat()
    return record("time", text(local), walk.encode(value.fold), walk.part(value.tzinfo, ".tzinfo"))


def of_timedelta(value: Any, walk: Walk) -> bytes:
    return record("timedelta", *map(walk.encode, (value.days, value.seconds, value.microseconds)))


def of_timezone(value: Any, walk: Walk) -> bytes:
    return record("timezone", walk.encode(value.utcoffset(None)), text(value.tzname(None)))


def of_zone(value: Any, walk: Walk) -> bytes:
    if value.key is None:
        raise Refusal(value, "it was read from a file and has no key")
    return record("ZoneInfo", text(value.key))


def of_pattern(value: Any, walk: Walk) -> bytes:
    return record("Pattern", walk.encode(value.pattern), walk.encode(value.flags))


def of_fraction(value: Any, walk: Walk) -> bytes:
    return record("Fraction", walk.encode(value.numerator), walk.encode(value.denominator))


def _of_text(word: str, content: Callable[[Any], str] = str) -> How:
    return lambda value, _walk: record(word, text(content(value)))


# By the name under which a type can be found, so that none of these modules is loaded for the look-up.
BY_NAME: dict[str, How] = {
    "builtins.list": of_list,
    "builtins.tuple": of_tuple,
    "builtins.set": of_set,
    "builtins.frozenset": of_frozenset,
    "builtins.dict": of_dict,
    "builtins.range": of_range,
    "builtins.slice": of_slice,
    "builtins.memoryview": of_memoryview,
    "collections.OrderedDict": of_ordered_dict,
    "collections.defaultdict": of_default_dict,
    "collections.Counter": of_counter,
    "collections.deque": of_deque,
    "types.SimpleNamespace": of_namespace,
    "datetime.datetime": of_datetime,
    "datetime.date": _of_text("date", lambda value: str(value.isoformat())),
    "datetime.time": of_time,
    "datetime.timedelta": of_timedelta,
    "datetime.timezone": of_timezone,
    "zoneinfo.ZoneInfo": of_zone,
    "re.Pattern": of_pattern,
    "decimal.Decimal": _of_text("Decimal"),
    "fractions.Fraction": of_fraction,
    "uuid.UUID": _of_text("UUID"),
    **{f"pathlib.{word}": _of_text(word) for word in ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")},
    **{f"pathlib.{word}": _of_text(word) for word in ("PurePath", "Path")},
}
