"""What counts as equal, kind by kind, where a property can't be drawn at random."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import math
import pathlib
import pickle
import re
import struct
import sys
import types
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

import attrs
import cloudpickle
import pytest
from pydantic import BaseModel, ConfigDict, HttpUrl, PrivateAttr, RootModel, SecretStr

from prefect_core import flow, task
from prefect_core.encoding import digest
from tests.unit.encoding.plain import VALUES, Colour, Job, Point, Right, Slotted, double

T = TypeVar("T")


@task
def job(x):
    return x


@flow
def night():
    pass


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int
    b: object = None
    _c: object = PrivateAttr(None)


class Box(BaseModel, Generic[T]):
    value: T


class Names(RootModel[list[str]]):
    pass


class Site(BaseModel):
    url: HttpUrl
    secret: SecretStr


@attrs.define
class Pair:
    a: object
    b: object = attrs.field(default=None, eq=False)

    @functools.cached_property
    def both(self):
        return [self.a, self.b]


class Wide(Slotted):
    __slots__ = ("c",)


class Sub(Job):
    pass


def wrapped(fn):
    @functools.wraps(fn)
    def inner(*args):
        return fn(*args)

    return inner


@wrapped
def decorated():
    pass


NEGATIVE_NAN = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000001))[0]
HOUR = dt.timedelta(hours=1)


def remembered(value, name):
    getattr(value, name)
    return value


def with_attribute(value, **attributes):
    for name, item in attributes.items():
        object.__setattr__(value, name, item)
    return value


def without(value, name):
    object.__delattr__(value, name)
    return value


EQUAL = {
    "every NaN": (math.nan, NEGATIVE_NAN),
    "a range that holds the same": (range(0, 3, 2), range(0, 4, 2)),
    "an empty range": (range(0), range(5, 5, 3)),
    "a range too long for len": (range(10**30), range(10**30)),
    "a dict in another order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "an alias of a member": (Colour.RED, Colour.CRIMSON),
    "a cached property": (Job("a"), remembered(Job("a"), "length")),
    "a cached property of attrs": (Pair(1), remembered(Pair(1), "both")),
    "a private attribute of a model": (Model(a=1), with_attribute(Model(a=1), _c=5)),
    "a field that was given and one that was not": (Model(a=1), Model(a=1, b=None)),
    "a task with other options": (job, job.with_options(retries=3)),
    "the clock's own UTC": (dt.UTC, dt.timezone(dt.timedelta(0))),
    "a memoryview with steps": (memoryview(b"axbx")[::2], memoryview(b"ab")),
    "the zone of a key": (ZoneInfo("Europe/Berlin"), ZoneInfo.no_cache("Europe/Berlin")),
}


@pytest.mark.parametrize(("one", "other"), EQUAL.values(), ids=EQUAL)
def test_equal_input_is(one: object, other: object) -> None:
    assert digest(one) == digest(other)
    assert digest({"k": [one]}) == digest({"k": [other]})


GROUPS: dict[str, list[object]] = {
    "zeros": [0.0, -0.0, 0, False, 0j, -0j, Decimal(0), Fraction(0)],
    "empty": [
        "",
        b"",
        bytearray(),
        memoryview(b""),
        [],
        (),
        set(),
        frozenset(),
        {},
        OrderedDict(),
        Counter(),
        deque(),
        range(0),
    ],
    "boundaries": [
        [1, 2],
        [[1], 2],
        [1, [2]],
        [[1, 2]],
        [[1], [2]],
        (1, 2),
        [(1, 2)],
        {1, 2},
        {1: 2},
        [[], 1, 2],
        [1, 2, []],
    ],
    "text that looks like a piece": [
        "i\x01\x01",
        b"i\x01\x01",
        [1],
        "l\x01i\x01\x01",
        "#" + "a" * 32,
        b"#" + b"a" * 32,
    ],
    "orders": [OrderedDict(a=1, b=2), OrderedDict(b=2, a=1), {"a": 1, "b": 2}],
    "default factories": [defaultdict(list), defaultdict(dict), defaultdict(None), {}],
    "bounds of deques": [deque([1]), deque([1], maxlen=1), deque([1], maxlen=2), [1]],
    "slices": [slice(1), slice(None, 1), slice(1, None), slice(1, 1), slice(None, None, 1)][1:],
    "exponents": [
        Decimal("1"),
        Decimal("1.0"),
        Decimal("1E+1"),
        Decimal("10"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("-NaN"),
    ],
    "moments": [
        dt.datetime.fromisoformat("2020-01-01T12:00:00"),
        dt.datetime.fromisoformat("2020-01-01T12:00:00").replace(fold=1),
        dt.datetime(2020, 1, 1, 12, tzinfo=dt.UTC),
        dt.datetime(2020, 1, 1, 13, tzinfo=dt.timezone(HOUR)),
        dt.datetime(2020, 1, 1, 13, tzinfo=ZoneInfo("Europe/Berlin")),
        dt.datetime(2020, 1, 1, 13, tzinfo=ZoneInfo("Europe/Paris")),
        dt.date(2020, 1, 1),
        dt.datetime.fromisoformat("2020-01-01"),
        dt.time(12),
        "2020-01-01T12:00:00",
    ],
    "zones": [dt.timezone(HOUR), dt.timezone(HOUR, "CET"), dt.timezone(-HOUR)],
    "patterns": [re.compile("a"), re.compile(b"a"), re.compile("a", re.IGNORECASE), "a"],
    "paths": [pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a"), pathlib.Path("a"), pathlib.Path("b"), "a"],
    "members": [Colour.RED, Colour.BLUE, Right.READ, Right.READ | Right.WRITE, Right(0), 1, 3],
    "named": [
        Job,
        Job.run,
        Job.make,
        Job("a").run,
        Job("b").run,
        double,
        job,
        job.fn,
        night,
        night.fn,
        str,
        str.upper,
        "double",
    ],
    "partials": [functools.partial(double, 1), functools.partial(double, 2), functools.partial(double, x=1), double],
    "fields": [
        Job("a"),
        Job("b"),
        Job("a", note=1),
        Sub("a"),
        with_attribute(Job("a"), further=1),
        {"name": "a", "paths": [], "note": None},
    ],
    "slots": [
        Slotted(1),
        without(Slotted(1), "b"),
        with_attribute(Slotted(1), b=1),
        Wide(1),
        with_attribute(Wide(1), c=1),
    ],
    "tuples": [Point(1, 2), (1, 2), Point(1.0, 2.0), Point(2, 1)],
    "models": [Model(a=1), Model(a=2), Model(a=1, extra=1), Model(a=1, other=1), Model.model_construct()],
    "generic models": [Box(value=1), Box[int](value=1), Box[float](value=1), Box[Box[int]](value=Box[int](value=1))],
    "roots": [Names(["a"]), ["a"]],
    "sites": [
        Site(url="http://a.b", secret="c"),
        Site(url="http://a.c", secret="c"),
        Site(url="http://a.b", secret="d"),
    ],
    "pairs": [Pair(1), Pair(2), Pair(1, 1)],
    "namespaces": [types.SimpleNamespace(a=1), types.SimpleNamespace(b=1), {"a": 1}],
    "identifiers": [uuid.UUID(int=1), uuid.UUID(int=2), str(uuid.UUID(int=1))],
    "views": [
        memoryview(b"abcd"),
        memoryview(b"abcd").cast("b"),
        memoryview(b"abcd").cast("i"),
        memoryview(b"abcd").cast("B", (2, 2)),
    ],
    "kinds": list(VALUES.values()),
}


@pytest.mark.parametrize("values", GROUPS.values(), ids=GROUPS)
def test_every_two_differ_in(values: list[object]) -> None:
    assert len({digest(value) for value in values}) == len(values)
    assert len({digest((value,)) for value in values}) == len(values)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_copy_made_by_pickle_counts_the_same(value: object) -> None:
    if isinstance(value, memoryview):
        value = bytes(value)
    assert digest(pickle.loads(pickle.dumps(value))) == digest(value)


def test_a_digest_has_32_bytes_and_is_no_str_hash() -> None:
    assert [len(digest(value)) for value in (None, [1], "a" * 1000)] == [32, 32, 32]


def test_a_container_that_is_shared_many_times_is_walked_once() -> None:
    def tower(height: int) -> object:
        shared: object = ["a" * 300]
        for _ in range(height):
            shared = [shared, shared]
        return shared

    assert digest(tower(190)) != digest(tower(189))


def test_what_special_returns_stands_for_an_object_wherever_it_is() -> None:
    marked = [object(), Job("a"), [1]]

    def special(value: object) -> bytes | None:
        return next((b"%d" % number for number, one in enumerate(marked) if value is one), None)

    assert digest(marked, special) == digest(list(marked), special)
    assert digest({"a": marked[0]}, special) != digest({"a": marked[1]}, special)
    assert digest(marked[2], special) != digest([1], special)
    assert digest([marked[2]], special) != digest(["2"], special) != digest([b"2"], special)


def test_special_is_not_asked_about_atoms() -> None:
    asked: list[object] = []
    digest([1, "a", None, b"", 1.0, True, (2,)], asked.append)
    assert asked == [[1, "a", None, b"", 1.0, True, (2,)], (2,)]


def test_a_function_that_a_decorator_replaced_is_not_taken_for_what_stands_under_its_name() -> None:
    digest(decorated)
    with pytest.raises(Exception, match="what is called .*decorated is something else"):
        digest(decorated.__wrapped__)


def main_module(monkeypatch: pytest.MonkeyPatch, name: str = "__main__") -> types.ModuleType:
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(
        "import dataclasses\n"
        "@dataclasses.dataclass\nclass Config:\n    a: int\n"
        "def helper(): return 1\n"
        "def other(): return 2\n",
        module.__dict__,
    )
    return module


def test_functions_and_classes_of_the_main_module_count_by_name(monkeypatch) -> None:
    main = main_module(monkeypatch)
    before = [digest(main.helper), digest(main.Config), digest(main.Config(1))]
    copies = cloudpickle.loads(cloudpickle.dumps([main.helper, main.Config, main.Config(1)]))
    assert [digest(copy) for copy in copies] == before
    # As in a worker process, where nothing stands under these names.
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    assert [digest(copy) for copy in copies] == before
    assert len(set(before)) == 3


def test_a_function_of_the_main_module_is_not_taken_for_another_of_its_name(monkeypatch) -> None:
    main = main_module(monkeypatch)
    main.other.__qualname__ = "helper"
    with pytest.raises(Exception, match=r"what is called __main__\.helper is something else"):
        digest(main.other)


def test_a_spawned_process_calls_the_main_module_by_another_name(monkeypatch) -> None:
    before = digest(main_module(monkeypatch).Config(1))
    spawned = main_module(monkeypatch, "__mp_main__")
    monkeypatch.setitem(sys.modules, "__main__", spawned)
    assert digest(spawned.Config(1)) == before


def test_a_class_that_comes_to_stand_under_its_name_later_can_be_encoded_then(monkeypatch) -> None:
    module = types.ModuleType("made_here")
    monkeypatch.setitem(sys.modules, "made_here", module)
    late = dataclasses.make_dataclass("Late", ["a"], namespace={"__module__": "made_here"})
    late.__module__ = "made_here"
    with pytest.raises(Exception, match=r"made_here\.Late is something else"):
        digest(late(1))
    module.Late = late
    assert digest(late(1))
