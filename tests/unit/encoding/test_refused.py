"""What has no stable encoding: what is refused, where it is said to be, and that nothing else is ever raised."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import io
import logging
import math
import os
import pickle
import random
import re
import socket
import sqlite3
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import cloudpickle
import pytest

from prefect_core import task
from prefect_core.encoding import NotEncodable, digest
from prefect_core.errors import PrefectException
from tests.unit.encoding.plain import Job, Point


class ListOfOwn(list):
    pass


class DictOfOwn(dict):
    pass


class TextOfOwn(str):
    __slots__ = ("label",)


class IntOfOwn(int):
    pass


class DateOfOwn(dt.datetime):
    pass


class DecimalOfOwn(Decimal):
    pass


class PointOfOwn(Point):
    pass


@dataclasses.dataclass
class FieldsAndMore(dict):
    a: int = 1


@dataclasses.dataclass
class Failure(Exception):
    a: int = 1


class Unknown:
    def __init__(self) -> None:
        self.a = 1


async def generate():
    yield 1


def local_class() -> Any:
    @dataclasses.dataclass
    class Local:
        a: int

    return Local


def local_function() -> Callable[[], None]:
    def inner() -> None: ...

    return inner


def released() -> memoryview:
    view = memoryview(b"a")
    view.release()
    return view


def labelled_point() -> Point:
    point = PointOfOwn(1, 2)
    point.label = "a"
    return point


@contextlib.contextmanager
def closing(thing: Any) -> Iterator[Any]:
    yield thing
    thing.close()


REFUSED: dict[str, Callable[[], Any]] = {
    "object": object,
    "object of an unknown class": Unknown,
    "list of an own class": ListOfOwn,
    "dict of an own class": DictOfOwn,
    "str of an own class": lambda: TextOfOwn("a"),
    "int of an own class": lambda: IntOfOwn(1),
    "datetime of an own class": lambda: DateOfOwn(2020, 1, 1),
    "Decimal of an own class": lambda: DecimalOfOwn(1),
    "namedtuple with attributes": labelled_point,
    "UserDict": collections.UserDict,
    "ChainMap": collections.ChainMap,
    "dataclass that is a dict": FieldsAndMore,
    "dataclass that is an exception": Failure,
    "exception": lambda: ValueError("a"),
    "generator": lambda: (x for x in ()),
    "async generator": generate,
    "iterator": lambda: iter([1]),
    "map": lambda: map(str, [1]),
    "lock": threading.Lock,
    "reentrant lock": threading.RLock,
    "thread": threading.Thread,
    "module": lambda: math,
    "lambda": lambda: lambda: 1,
    "local function": local_function,
    "local class": local_class,
    "object of a local class": lambda: local_class()(1),
    "task of a lambda": lambda: task(lambda: 1),
    "bound built-in method": lambda: [].append,
    "generic alias": lambda: list[int],
    "file in memory": io.StringIO,
    "random numbers": random.Random,
    "logger": lambda: logging.getLogger("a"),
    "weak reference": lambda: weakref.ref(Job),
    "dict view": lambda: {}.keys(),
    "read-only dict": lambda: types.MappingProxyType({}),
    "frame": sys._getframe,
    "stat": lambda: os.stat("."),
    "match": lambda: re.match("a", "a"),
    "released memoryview": released,
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_refused_is(make: Callable[[], Any]) -> None:
    for value, path in [(make(), ""), ([1, make()], "[1]"), ({"a": {"b c": make()}}, "a['b c']")]:
        with pytest.raises(NotEncodable) as raised:
            digest(value)
        assert raised.value.path == path
        assert raised.value.__context__ is raised.value.__cause__ or raised.value.__suppress_context__


@pytest.mark.parametrize(
    "make",
    [lambda: io.FileIO(os.devnull), lambda: sqlite3.connect(":memory:"), socket.socket, lambda: os.scandir(".")],
    ids=["file", "database", "socket", "folder"],
)
def test_what_is_open_is_refused(make: Callable[[], Any]) -> None:
    with closing(make()) as thing, pytest.raises(NotEncodable, match="has no stable encoding"):
        digest([thing])


def test_a_coroutine_is_refused() -> None:
    async def body():
        pass

    coroutine = body()
    with pytest.raises(NotEncodable, match="it can be read only once"):
        digest(coroutine)
    coroutine.close()


PATHS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda lock: lock, ""),
    (lambda lock: {"config": Job("a", paths=[1, 2, 3, lock])}, "config.paths[3]"),
    (lambda lock: Job("a", paths=[1, lock]), "paths[1]"),
    (lambda lock: {"config": {"paths": (0, lock)}}, "config['paths'][1]"),
    (lambda lock: {1: lock}, "[1]"),
    (lambda lock: {"not a name": [lock]}, "['not a name'][0]"),
    (lambda lock: {"a": {lock: 1}}, "a{key}"),
    (lambda lock: {"a": {(1, lock)}}, "a{element}[1]"),
    (lambda lock: Point(1, lock), "y"),
    (lambda lock: {"a": types.SimpleNamespace(b=lock)}, "a.b"),
    (lambda lock: [collections.deque([lock])], "[0][0]"),
    (lambda lock: [Job("a", note=lock).run], "[0].__self__.note"),
    (lambda lock: [collections.defaultdict(lambda: 1)], "[0].default_factory"),
]


@pytest.mark.parametrize(("around", "path"), PATHS, ids=[path for _, path in PATHS])
def test_the_error_names_the_place(around: Callable[[Any], Any], path: str) -> None:
    with pytest.raises(NotEncodable) as raised:
        digest(around(threading.Lock()))
    assert raised.value.path == path
    assert repr(path) in str(raised.value) or not path


def test_the_message_says_what_it_is_and_what_to_do() -> None:
    with pytest.raises(NotEncodable) as raised:
        digest({"config": [Unknown()]})
    assert str(raised.value) == (
        f"The input 'config[0]' of type {__name__}.Unknown has no stable encoding: nothing is known of when two of them are equal. "
        'Give the call a key (submit(..., key=...)), leave the input out of the cache policy (INPUTS - "config"), or pass plain data.'
    )


@pytest.mark.parametrize("kit", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_the_error_survives_pickling(kit: Any) -> None:
    with pytest.raises(NotEncodable) as raised:
        digest({"a": [object()]})
    copy = kit.loads(kit.dumps(raised.value))
    assert (type(copy), str(copy), copy.path) == (NotEncodable, str(raised.value), "a[0]")
    assert isinstance(copy, PrefectException)


def in_list(value: list[Any]) -> Any:
    value.append([value])
    return value


def in_dict(value: dict[str, Any]) -> Any:
    value["a"] = (1, value)
    return value


def in_fields(value: Job) -> Any:
    value.note = [value]
    return value


@pytest.mark.parametrize("value", [in_list([]), in_dict({}), in_fields(Job("a"))], ids=["list", "dict", "dataclass"])
def test_a_circle_is_refused(value: object) -> None:
    with pytest.raises(NotEncodable, match="it holds itself"):
        digest(value)


def nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "wrap", [lambda x: [x], lambda x: (x,), lambda x: {"a": x}, Job], ids=["list", "tuple", "dict", "dataclass"]
)
def test_ten_thousand_levels_are_refused_and_a_hundred_are_not(wrap: Callable[[Any], Any]) -> None:
    digest(nested(100, wrap))
    with pytest.raises(NotEncodable, match="it lies more than 200 levels deep"):
        digest(nested(10_000, wrap))


def test_a_stack_that_is_used_up_is_no_recursion_error() -> None:
    outcomes = set()

    def at(depth: int) -> None:
        if depth:
            at(depth - 1)
            return
        try:
            digest(nested(150, lambda x: [x]))
            outcomes.add("fine")
        except NotEncodable as error:
            outcomes.add(type(error.__cause__).__name__)

    left = sys.getrecursionlimit() - len(__import__("inspect").stack(0))
    for room in range(40, 700, 20):
        at(left - room)
    assert outcomes == {"fine", "RecursionError"}


class Raising:
    """Raises in whatever is asked of it."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("eq")

    def __hash__(self) -> int:
        raise ValueError("hash")

    def __repr__(self) -> str:
        raise ValueError("repr")

    def __getattr__(self, name: str) -> Any:
        raise ValueError(f"getattr {name}")


@dataclasses.dataclass
class Lazy:
    a: int

    @property
    def b(self) -> int:
        raise ValueError("b")

    b_field: dataclasses.InitVar[int] = 0


Lazy.__dataclass_fields__["b"] = Lazy.__dataclass_fields__["a"]


class Awkward(type):
    def __eq__(cls, other: object) -> bool:
        raise ValueError("eq of the class")

    def __hash__(cls) -> int:
        raise ValueError("hash of the class")


class OfAwkward(metaclass=Awkward):
    pass


@pytest.mark.parametrize(
    "make", [Raising, lambda: Lazy(1), lambda: object.__new__(OfAwkward)], ids=["object", "field", "class"]
)
def test_what_user_code_raises_is_the_cause(make: Callable[[], Any]) -> None:
    for value in (make(), [make()], {"a": make()}):
        with pytest.raises(NotEncodable, match="reading it raised ValueError") as raised:
            digest(value)
        assert isinstance(raised.value.__cause__, ValueError)


def test_what_special_raises_is_the_cause() -> None:
    def special(_value: object) -> bytes | None:
        raise KeyError("special")

    with pytest.raises(NotEncodable, match="reading it raised KeyError") as raised:
        digest([[]], special)
    assert isinstance(raised.value.__cause__, KeyError)


def test_a_dict_that_changes_while_it_is_read_is_refused() -> None:
    growing: dict[Any, Any] = {"a": [1]}

    def special(_value: object) -> bytes | None:
        growing[len(growing)] = 1
        return None

    with pytest.raises(NotEncodable, match="changed size during iteration"):
        digest(growing, special)


def test_an_interrupt_is_let_through() -> None:
    def special(_value: object) -> bytes | None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        digest([], special)
