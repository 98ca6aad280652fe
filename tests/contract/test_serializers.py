"""What every serializer does, by whatever way it was found."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from io import BytesIO
from pathlib import Path, PurePosixPath, PureWindowsPath
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_core import serializers
from prefect_core.errors import ConfigurationError, UnknownSerializerError
from prefect_core.serializers import (
    CompressedJSONSerializer,
    CompressedPickleSerializer,
    CompressedSerializer,
    JSONSerializer,
    PickleSerializer,
    Serializer,
    check_serializer,
    resolve_serializer,
)
from tests.contract import stored_kinds as kinds
from tests.contract.stored_kinds import Reversed

NAMES = ["pickle", "json", "compressed/pickle", "compressed/json"]
ALL: list[Serializer] = [
    PickleSerializer(),
    PickleSerializer(picklelib="pickle"),
    JSONSerializer(),
    *(
        CompressedSerializer(inner, library)
        for inner in ("pickle", "json")
        for library in ("lzma", "bz2", "gzip", "zlib")
    ),
    CompressedSerializer(CompressedJSONSerializer(compressionlib="gzip")),
]
every_serializer = pytest.mark.parametrize("serializer", ALL, ids=lambda one: one.spec())

strict = kinds.Strict(name="x", inner=[1, (2,)], more="extra")
strict._private = 5
VALUES = [
    None,
    True,
    0,
    -(2**70),
    1.5,
    float("inf"),
    "text \u2028 \ud83d\ude00 é \0",
    "\ud800",
    {"\ud83d\ude00": "\ud83d\ude00"},
    b"bytes\0",
    bytearray(b"more"),
    complex(1, -2),
    [1, [2, [3]]],
    (),
    (1, ("a", None)),
    {},
    {"a": {"b": [1]}},
    {1: "a", (2, 3): "b", None: "c"},
    {"__class__": "builtins:dict", "data": 1},
    {"__class__": {"__class__": 1}},
    {1, "a", (2,)},
    frozenset({1}),
    deque([1, 2], maxlen=5),
    OrderedDict(b=1, a=2),
    range(1, 10, 2),
    date(2026, 2, 28),
    time(1, 2, 3, 4, fold=1),
    datetime(2026, 11, 1, 1, 30, fold=1, tzinfo=ZoneInfo("America/New_York")),
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1, microsecond=1, tzinfo=timezone(timedelta(hours=-3, seconds=7), "odd")),
    timedelta(days=-1, microseconds=1),
    timezone(timedelta(hours=1)),
    Decimal("1.10"),
    Decimal("1e-400"),
    Fraction(1, 3),
    UUID(int=1),
    Path("/a b/ü"),
    PurePosixPath("x"),
    PureWindowsPath("c:/x"),
    kinds.Colour.RED,
    kinds.Colour.BLUE,
    kinds.Level.LOW,
    kinds.Rights.READ,
    kinds.Rights.READ | kinds.Rights.WRITE,
    kinds.Rights(0),
    kinds.Point(1, kinds.Point(2)),
    kinds.Plain("abc", {1: kinds.Plain("inner")}),
    kinds.Frozen(1, (2, 3)),
    strict,
    kinds.Names(["a", "b"]),
    {"all": [strict, kinds.Frozen(1), {datetime.fromisoformat("2026-01-01T00:00:00"): {1}}]},
]
ERRORS = [
    ValueError("a", 1),
    KeyError("k"),
    FileNotFoundError(2, "No such file", "/x"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    ImportError("no", name="module", path="/p"),
    ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [KeyError(2)])]),
    StopIteration(3),
    KeyboardInterrupt(),
]


@every_serializer
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_a_value_comes_back_as_what_it_was(serializer: Serializer, value: object) -> None:
    for back in (serializer.loads(serializer.dumps(value)), serializer.load(BytesIO(b"".join(serializer.dump(value))))):
        assert back == value
        assert type(back) is type(value)
        assert repr(back) == repr(value) or isinstance(value, set)


@every_serializer
def test_nan_comes_back(serializer: Serializer) -> None:
    assert all(math.isnan(back) for back in serializer.loads(serializer.dumps([float("nan"), -float("nan")])))


@every_serializer
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_exception_comes_back_with_its_text_and_fields(serializer: Serializer, error: BaseException) -> None:
    error.__notes__ = ["noted"]
    back = serializer.loads(serializer.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert repr(back) == repr(error)
    assert back.__notes__ == ["noted"]
    for name in ("errno", "filename", "name", "path", "value", "start", "object"):
        assert getattr(back, name, None) == getattr(error, name, None)


def test_json_brings_an_exception_back_that_could_not_be_made_of_its_arguments() -> None:
    back = JSONSerializer().loads(JSONSerializer().dumps(kinds.Odd(7, place="here")))
    assert (type(back), str(back), back.code, back.place) == (kinds.Odd, "code 7", 7, "here")


def test_json_makes_objects_without_running_their_constructors_and_validators() -> None:
    back = JSONSerializer().loads(JSONSerializer().dumps(strict))
    assert back.name == "x!"
    assert back._private == 5
    assert back.model_extra == {"more": "extra"}
    assert back.model_fields_set == strict.model_fields_set
    assert JSONSerializer().loads(JSONSerializer().dumps(kinds.Plain("abc"))).extra == "set later"


@every_serializer
@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text()
        | st.binary()
        | st.datetimes()
        | st.uuids(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text(max_size=10) | st.integers() | st.just("__class__"), inner, max_size=4)
            | st.sets(st.integers() | st.text(max_size=5), max_size=4)
        ),
        max_leaves=20,
    )
)
def test_any_nesting_comes_back(serializer: Serializer, value: object) -> None:
    assert serializer.loads(serializer.dumps(value)) == value


# Being found again.


@every_serializer
def test_it_is_found_again_by_its_spec(serializer: Serializer) -> None:
    again = resolve_serializer(serializer.spec())
    assert again == serializer
    assert hash(again) == hash(serializer)
    assert again.name == serializer.name
    assert again.loads(serializer.dumps({"a": (1,)})) == {"a": (1,)}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_spec(name: str) -> None:
    assert resolve_serializer(name).name == resolve_serializer(name).spec() == name
    assert resolve_serializer(name).executes_code is ("pickle" in name)


@pytest.mark.parametrize(
    ("serializer", "name"),
    [
        (PickleSerializer(), "pickle"),
        (JSONSerializer(), "json"),
        (CompressedPickleSerializer(), "compressed/pickle"),
        (CompressedJSONSerializer(compressionlib="bz2"), "compressed/json"),
    ],
)
def test_an_instance_resolves_to_itself(serializer: Serializer, name: str) -> None:
    assert resolve_serializer(serializer) is serializer
    assert serializer.name == name
    assert repr(serializer).startswith(type(serializer).__name__)


def test_our_serializers_are_entry_points_too() -> None:
    found = serializers._installed()
    assert {"pickle", "json", "compressed"} <= found.names
    for entry in found:
        assert issubclass(entry.load(), Serializer)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        UnknownSerializerError,
        match=r"no serializer called 'jsn'\. Known: json, .*pickle.*compressed/pickle.*prefect_core.serializers",
    ):
        resolve_serializer("jsn")
    with pytest.raises(UnknownSerializerError, match="no serializer called 'other'"):
        resolve_serializer("compressed/other")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("compressed", "what to compress"),
        ("compressed/", "what to compress"),
        ("pickle/json", "nothing behind a slash"),
        ("{", "no serializer: expected a name"),
        ('{"name": "json"}', "no serializer: expected a name"),
        ('{"name": "json", "options": {"color": 1}}', "can't be made: .*color"),
        (
            '{"name": "compressed/json", "options": {"compressionlib": "rar"}}',
            "compressionlib must be one of lzma, bz2, gzip, zlib; got 'rar'",
        ),
        ('{"name": "pickle", "options": {"picklelib": "no_such"}}', "picklelib='no_such' can't be imported"),
    ],
)
def test_a_spec_that_can_not_work_says_why(spec: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        resolve_serializer(spec)


@pytest.mark.parametrize("spec", [PickleSerializer, "", 7, b"json", object()])
def test_what_is_no_serializer_is_refused_at_decoration(spec: object) -> None:
    with pytest.raises(TypeError, match="Expected a serializer or its name for 'result_serializer'; got"):
        check_serializer(spec)


def test_what_may_be_one_passes_at_decoration() -> None:
    for spec in (None, "pickle", "known later", JSONSerializer()):
        assert check_serializer(spec) is spec


def test_a_class_of_the_users_needs_a_name_and_two_methods() -> None:
    assert resolve_serializer("reversed").loads(b"cba") == "abc"
    assert resolve_serializer(Reversed()).dump("abc") == [b"cba"]
    assert resolve_serializer("reversed").load(BytesIO(b"cba")) == "abc"
    assert CompressedSerializer(Reversed()).name == "compressed/reversed"
    packed = resolve_serializer("compressed/reversed")
    assert packed.loads(packed.dumps("abc")) == "abc"
    assert packed.executes_code


def test_a_class_without_a_name_is_refused() -> None:
    class Nameless(Serializer):
        dumps = Reversed.dumps
        loads = Reversed.loads

    with pytest.raises(TypeError, match="Nameless needs a `name`"):
        check_serializer(Nameless())


def test_a_class_that_hides_behind_the_name_of_another_is_refused() -> None:
    class Mine(JSONSerializer):
        def loads(self, data: bytes) -> object:
            return "mine"

    with pytest.raises(
        ConfigurationError, match="Mine has the name 'json', which is that of prefect_serializers.json.JSONSerializer"
    ):
        resolve_serializer(Mine())


def test_an_abstract_one_can_not_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (Serializer,), {"name": "half"})()


# Options.


def test_options_that_can_not_work_are_refused_with_their_name() -> None:
    for make, reason in [
        (lambda: PickleSerializer(picklelib="no_such_library"), "picklelib='no_such_library' can't be imported"),
        (lambda: PickleSerializer(picklelib="math"), "picklelib='math' has no function 'dumps' and no 'loads'"),
        (lambda: JSONSerializer(jsonlib="math"), "jsonlib='math' has no function"),
        (lambda: JSONSerializer(object_encoder="nodots"), "object_encoder='nodots' names no function"),
        (lambda: JSONSerializer(object_decoder="math.no_such"), "object_decoder='math.no_such' names no function"),
        (
            lambda: JSONSerializer(dumps_kwargs={"default": "x"}),
            "'default' can't be given in dumps_kwargs; use object_encoder",
        ),
        (
            lambda: JSONSerializer(loads_kwargs={"object_hook": "x"}),
            "'object_hook' can't be given in loads_kwargs; use object_decoder",
        ),
        (lambda: JSONSerializer(dumps_kwargs={"cls": object}), "dumps_kwargs is kept as JSON"),
        (lambda: CompressedSerializer("json", "rar"), "compressionlib must be one of"),
    ]:
        with pytest.raises(ValueError, match=reason):
            make()


def encode_set(value: object) -> object:
    return {"a set": sorted(value)}


def decode_set(value: dict[str, object]) -> object:
    return set(value["a set"]) if "a set" in value else value


def test_functions_of_the_users_replace_our_form() -> None:
    module = "tests.contract.test_serializers"
    serializer = JSONSerializer(
        object_encoder=f"{module}.encode_set", object_decoder=f"{module}.decode_set", dumps_kwargs={"indent": 1}
    )
    assert serializer.dumps([{2, 1}]) == b'[\n {\n  "a set": [\n   1,\n   2\n  ]\n }\n]'
    assert resolve_serializer(serializer.spec()).loads(serializer.dumps([{2, 1}])) == [{1, 2}]
    assert serializer.executes_code


def test_json_that_others_read_is_plain() -> None:
    assert JSONSerializer().dumps({"a": [1, 2.5, "x", None, True]}) == b'{"a":[1,2.5,"x",null,true]}'
