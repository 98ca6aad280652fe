"""One value of each kind of the standard library that can be encoded, for any Python without a library: no NumPy, no pydantic."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import math
import pathlib
import re
import sys
import types
import typing
import uuid
import zoneinfo


class Colour(enum.Enum):
    RED = 1
    CRIMSON = RED
    BLUE = 2


class Right(enum.IntFlag):
    READ = 1
    WRITE = 2


class Point(typing.NamedTuple):
    x: float
    y: float = 0.0


@dataclasses.dataclass
class Job:
    name: str
    paths: list[str] = dataclasses.field(default_factory=list)
    note: object = dataclasses.field(default=None, compare=False)
    kind: typing.ClassVar[str] = "job"

    def run(self) -> None: ...

    @classmethod
    def make(cls) -> None: ...

    @functools.cached_property
    def length(self) -> int:
        return len(self.paths)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    a: object
    b: int = 0


def double(x: int) -> int:
    return 2 * x


VALUES: dict[str, object] = {
    "None": None,
    "True": True,
    "False": False,
    "int": 12,
    "int, negative": -129,
    "int, long": 3**2000,
    "float": 1.5,
    "float, negative zero": -0.0,
    "float, not a number": math.nan,
    "complex": 1 - 2j,
    "str": "grün",
    "str, surrogate": "\udcff",
    "str, long": "long" * 1000,
    "bytes": b"bytes",
    "bytes, long": b"long" * 1000,
    "bytearray": bytearray(b"bytes"),
    "memoryview": memoryview(b"bytes"),
    "Ellipsis": ...,
    "NotImplemented": NotImplemented,
    "list": [1, "a", [None]],
    "list of many ints": list(range(100)),
    "list of many long ints": [2**70] * 20,
    "list of many floats": [0.5, math.nan] * 10,
    "list of many strings": ["", "ä", "\udcff", "abc"] * 5,
    "list of many things": [1, "a"] * 10,
    "tuple": (1, ("a",)),
    "namedtuple": Point(1.0, 2.0),
    "set": {1, "a", None, (1, 2)},
    "frozenset": frozenset({"a", "b", "c"}),
    "dict": {"a": 1, 2: [3], None: {}},
    "OrderedDict": collections.OrderedDict(a=1, b=2),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "Counter": collections.Counter("hello"),
    "deque": collections.deque([1, 2], maxlen=3),
    "SimpleNamespace": types.SimpleNamespace(a=1),
    "range": range(0, 10, 3),
    "slice": slice(1, None),
    "Enum": Colour.BLUE,
    "Flag": Right.READ | Right.WRITE,
    "datetime": dt.datetime.fromisoformat("2020-01-02T03:04:05.000006"),
    "datetime, aware": dt.datetime(2020, 1, 2, tzinfo=dt.UTC),
    "datetime in a zone": dt.datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    "date": dt.date(2020, 1, 2),
    "time": dt.time(3, 4),
    "timedelta": dt.timedelta(days=-1, microseconds=5),
    "timezone": dt.timezone(dt.timedelta(hours=1), "here"),
    "Decimal": decimal.Decimal("1.00"),
    "Fraction": fractions.Fraction(-1, 3),
    "UUID": uuid.UUID(int=5),
    "PurePosixPath": pathlib.PurePosixPath("a/b"),
    "PureWindowsPath": pathlib.PureWindowsPath("a\\b"),
    "Path": pathlib.Path("a/b"),
    "Pattern": re.compile("a+", re.IGNORECASE),
    "class": Job,
    "built-in class": int,
    "function": double,
    "built-in function": math.sqrt,
    "method of a class": Job.run,
    "method": Job("a").run,
    "class method": Job.make,
    "method of a built-in class": str.upper,
    "cached function": functools.cache,
    "partial": functools.partial(double, x=1),
    "dataclass": Job("a", ["b"]),
    "dataclass with slots": Slotted([1]),
}


def hexadecimal() -> dict[str, str]:
    """Return the digest of each value."""
    from prefect_core.encoding import digest

    return {name: digest(value).hex() for name, value in VALUES.items()}


if __name__ == "__main__":
    import json

    # Its classes bear the name of the module as the tests import it.
    sys.path.insert(0, str(pathlib.Path(__file__).parents[3]))
    from tests.unit.encoding import plain

    print(json.dumps(plain.hexadecimal()))
