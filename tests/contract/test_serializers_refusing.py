"""What serializers refuse: values that they can't take, bytes that are not theirs, and, where only JSON is allowed, code."""

from __future__ import annotations

import threading

import pytest

from prefect_core import serializers
from prefect_core.errors import ConfigurationError, SerializationError
from prefect_core.serializers import (
    CompressedPickleSerializer,
    JSONSerializer,
    PickleSerializer,
    describe_unserializable,
    resolve_serializer,
)
from prefect_core.settings import temporary_settings
from tests.contract import stored_kinds as kinds
from tests.contract.stored_kinds import Reversed


class Holder:
    def __init__(self) -> None:
        self.fine = 1
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("pickle", {"rows": [1, Holder()]}, r"value\['rows'\]\[1\].lock is a _thread.lock \(TypeError: cannot pickle"),
        ("compressed/pickle", threading.Lock(), r"value is a _thread.lock \(TypeError: cannot pickle"),
        ("pickle", (number for number in []), r"value is a generator \(TypeError: cannot pickle 'generator' object"),
        (
            "json",
            {"rows": [1, {"x": object()}]},
            r"value\['rows'\]\[1\]\['x'\] is an object \(TypeError: JSON has no form for it",
        ),
        ("compressed/json", [print], r"value\[0\] is a builtin_function_or_method"),
        ("json", [int], r"value\[0\] is a type"),
        (
            "json",
            kinds.DataclassThatIsAList(),
            r"value is a tests.contract.stored_kinds.DataclassThatIsAList \(TypeError: JSON has no form",
        ),
    ],
)
def test_an_error_names_the_part_that_fails_and_what_to_do(name: str, value: object, part: str) -> None:
    serializer = resolve_serializer(name)
    with pytest.raises(SerializationError, match=part) as raised:
        serializer.dump(value)
    assert f"the serializer '{name.rpartition('/')[2]}' can't take it: " in str(raised.value)
    assert ('result_serializer="pickle"' if "json" in name else "persist_result=False") in str(raised.value)
    assert raised.value.__cause__ is not None
    assert describe_unserializable(serializer, value, raised.value) == str(raised.value)


def test_an_error_of_a_users_serializer_is_described_too() -> None:
    class Picky(Reversed):
        name = "picky"

        def dumps(self, value: object) -> bytes:
            if value == 3 or isinstance(value, list) and 3 in value:
                raise ValueError("no threes")
            return b""

    failure = pytest.raises(ValueError, Picky().dump, [1, 3]).value
    said = describe_unserializable(Picky(), [1, 3], failure)
    assert said.startswith(
        "the serializer 'picky' can't take it: value[1] is an int (ValueError: no threes). Return plain data"
    )


def test_a_value_that_holds_itself_is_refused_by_json_and_kept_by_pickle() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(SerializationError, match="RecursionError"):
        JSONSerializer().dumps(value)
    back = PickleSerializer().loads(PickleSerializer().dumps(value))
    assert back[0] is back


def test_json_refuses_a_class_that_is_found_under_no_name() -> None:
    class Local(kinds.Plain):
        pass

    with pytest.raises(
        SerializationError,
        match=r"its class can't be imported as tests.contract.test_serializers_refusing\..*<locals>.Local",
    ):
        JSONSerializer().dumps(Local("x"))


def test_json_tells_that_a_class_has_lost_touch_with_a_stored_value() -> None:
    stored = JSONSerializer().dumps(kinds.Frozen(1)).replace(b'"b"', b'"c"')
    with pytest.raises(
        SerializationError, match=r"stored_kinds.Frozen has changed since this value was stored: the value has no b"
    ):
        JSONSerializer().loads(stored)
    stored = JSONSerializer().dumps(kinds.Strict(name="x")).replace(b'"inner"', b'"outer"')
    with pytest.raises(SerializationError, match=r"Strict has changed .* the value has no inner"):
        JSONSerializer().loads(stored)


# Loading is loading code, or is not.

HOSTILE = [
    b'{"__class__":"os:system","data":"true"}',
    b'{"__class__":"builtins:eval","data":"1"}',
    b'{"__class__":"builtins:print","data":{}}',
    b'{"__class__":"builtins:type","data":{}}',
    b'{"__class__":"subprocess:Popen","data":["true"]}',
    b'{"__class__":"tests.contract.stored_kinds:Unrelated","data":{}}',
    b'{"__class__":"tests.contract.stored_kinds:Unrelated.__init__","data":{}}',
    b'{"__class__":"no.such.module:Thing","data":{}}',
    b'{"__class__":"tests.contract.stored_kinds:NoSuch","data":{}}',
    b'{"__class__":":","data":{}}',
    b'{"__class__":"","data":{}}',
    b'{"__class__":"nothing","data":{}}',
    b'{"__class__":7,"data":{}}',
    b'{"__class__":["tuple"],"data":{}}',
    b'{"__class__":"tuple"}',
    b'{"__class__":"tuple","data":[],"more":1}',
    b'{"__class__":"tuple","data":7}',
    b'{"__class__":"dict","data":[[[],1]]}',
    b'{"__class__":"bytes","data":"%%"}',
    b'{"__class__":"datetime","data":["x",0,null]}',
    b'{"__class__":"datetime","data":["2026-01-01",0,{"__class__":"tuple","data":[]}]}',
    b'{"__class__":"ZoneInfo","data":"../../etc/passwd"}',
    b'{"__class__":"Decimal","data":"x"}',
    b'{"__class__":"range","data":[1,2,0]}',
    b'{"__class__":"builtins:OSError","data":{}}',
    b'{"__class__":"builtins:OSError","data":[]}',
    b'{"__class__":"builtins:UnicodeDecodeError","data":{"args":[],"state":{}}}',
    b'{"__class__":"builtins:ValueError","data":{"args":[],"state":{"__class__":"x","data":1}}}',
    b'{"__class__":"builtins:ValueError","data":{"args":[],"state":{"__traceback__":1}}}',
    b'{"__class__":"tests.contract.stored_kinds:Colour","data":"GREEN"}',
    b'{"__class__":"tests.contract.stored_kinds:Colour","data":[]}',
    b'{"__class__":"tests.contract.stored_kinds:Rights","data":"x"}',
    b'{"__class__":"tests.contract.stored_kinds:Strict","data":{}}',
    b'{"__class__":"tests.contract.stored_kinds:Frozen","data":[1]}',
    b'{"a":',
    b"",
    b"\xff\xfe",
]


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_json_that_is_not_ours_is_an_error_and_calls_nothing(data: bytes) -> None:
    with pytest.raises(SerializationError):
        JSONSerializer().loads(data)
    assert kinds.Unrelated.made == []


@pytest.mark.parametrize(
    "spec",
    [
        "pickle",
        "compressed/pickle",
        "reversed",
        '{"name": "pickle", "options": {"picklelib": "antigravity"}}',
        '{"name": "json", "options": {"jsonlib": "antigravity"}}',
        '{"name": "json", "options": {"object_decoder": "antigravity.fly"}}',
        PickleSerializer(),
        CompressedPickleSerializer(),
    ],
    ids=str,
)
def test_where_only_json_is_allowed_others_are_neither_found_nor_imported(
    spec: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serializers, "_imported", lambda *names: pytest.fail(f"imported {names}"))
    with (
        temporary_settings(results_json_only=True),
        pytest.raises(ConfigurationError, match="results_json_only allows only what can't"),
    ):
        resolve_serializer(spec)


@pytest.mark.parametrize("name", ["json", "compressed/json"])
def test_where_only_json_is_allowed_json_works(name: str) -> None:
    with temporary_settings(results_json_only=True):
        serializer = resolve_serializer(name)
        assert serializer.loads(serializer.dumps(kinds.Plain("x"))) == kinds.Plain("x")
