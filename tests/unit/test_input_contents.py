"""What is sent comes back as it was: by JSON where that holds it, else by a pickle; and the channels of types."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, TypedDict
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, Field, computed_field

from prefect_core import settings
from prefect_core.errors import SerializationError
from prefect_core.input import InvalidInput, RunInput
from prefect_core.input.contents import Content, channels_of, packed, unpacked
from prefect_core.input_forms import Form


class Colour(enum.IntEnum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    y: tuple[int, ...] = ()


class Plain:
    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return isinstance(other, Plain) and self.number == other.number


class Order(RunInput):
    amount: Decimal
    when: datetime | None = None
    anything: Any = None


class Renamed(BaseModel):
    model_config = ConfigDict(extra="allow")
    inner: int = Field(alias="outer")
    hidden: int = Field(default=1, exclude=True)

    @computed_field
    def double(self) -> int:
        return 2 * self.inner


class Answer(TypedDict):
    value: int


Name = NewType("Name", str)

BY_JSON = [
    None,
    True,
    7,
    -1.5,
    "a\u2028b",
    [1, "a", [None]],
    {"a": {"b": [1.0]}},
    b"bytes",
    Point(1, (2, 3)),
    Decimal("1.10"),
    datetime.fromisoformat("2026-01-02T03:04:05.000006"),
    datetime(2026, 1, 2, tzinfo=UTC),
    timedelta(seconds=1.5),
    uuid.UUID(int=5),
    Colour.RED,
    Order(amount=Decimal("3.0"), when=datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2)))),
]
BY_PICKLE = [
    math.inf,
    "\ud800",
    [1, (2,)],
    [Colour.RED],
    {1: "a"},
    {2, Colour.RED},
    [datetime(2026, 1, 1, tzinfo=UTC)],
    datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),
    Plain(3),
    Plain,
    Order(amount=Decimal(1), anything=(1, 2)),
    Order(amount=Decimal(1), anything=Colour.RED),
]


def kind(value: Any) -> str:
    return type(value).__name__


def there_and_back(value: Any) -> Any:
    return unpacked(packed(value), Form(type(value), holds_any=True))


@pytest.mark.parametrize("value", BY_JSON, ids=kind)
def test_what_json_holds_travels_as_json(value: Any) -> None:
    content = packed(value)
    assert not content.is_pickled
    json.loads(content.data)
    back = there_and_back(value)
    assert (type(back), back) == (type(value), value)


@pytest.mark.parametrize("value", BY_PICKLE, ids=kind)
def test_what_json_would_change_travels_as_a_pickle(value: Any) -> None:
    assert packed(value).is_pickled
    back = there_and_back(value)
    assert (type(back), back) == (type(value), value)
    if isinstance(value, datetime):
        assert back.tzinfo == value.tzinfo
    if isinstance(value, list):
        assert [type(item) for item in back] == [type(item) for item in value]


def test_a_model_that_does_not_read_what_it_writes_travels_by_its_fields() -> None:
    value = Renamed(outer=3, hidden=5, more=[1])
    back = there_and_back(value)
    assert (back.inner, back.hidden, back.double, back.more) == (3, 5, 6, [1])


def test_arrays_travel() -> None:
    value = np.arange(3.0)
    assert there_and_back(value).tolist() == [0.0, 1.0, 2.0]


def test_a_model_fits_another_of_the_same_fields() -> None:
    class Twin(RunInput):
        amount: float
        when: datetime | None = None
        anything: Any = None

    assert unpacked(packed(Order(amount=Decimal(2))), Form(Twin)) == Twin(amount=2.0)
    assert unpacked(packed(Order(amount=Decimal(2), anything=(1,))), Form(Twin)) == Twin(amount=2.0, anything=(1,))


def test_a_union_takes_models_and_bare_values() -> None:
    form = Form(Order | str, holds_any=True)
    assert unpacked(packed("end"), form) == "end"
    assert unpacked(packed(Order(amount=Decimal(2))), form) == Order(amount=Decimal(2))


@pytest.mark.parametrize(
    ("value", "wanted", "reason"),
    [
        ("x", int, "Reason: value: Input should be a valid integer, unable to parse string as an integer"),
        (Plain(1), Point, "Reason: value: Input should be a dictionary or an instance of Point"),
        (Order(amount=Decimal(1)), Renamed, "Reason: outer: Field required"),
    ],
)
def test_what_does_not_fit_says_why(value: Any, wanted: Any, reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        unpacked(packed(value), Form(wanted, holds_any=True))
    assert str(refused.value).startswith(reason)


def test_what_can_not_be_loaded_says_why() -> None:
    gone = packed(Plain(1)).data.replace(b"test_input_contents", b"test_input_contentz")
    with pytest.raises(InvalidInput, match=r"^It can't be loaded here: ModuleNotFoundError: No module named"):
        unpacked(Content(gone, is_pickled=True), Form(Any))


def test_a_pickle_is_not_loaded_where_only_json_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    content = packed([(1,)])
    monkeypatch.setenv("PREFECT_CORE_RESULTS_JSON_ONLY", "true")
    settings.forget()
    with pytest.raises(InvalidInput, match="results_json_only"):
        unpacked(content, Form(list))
    assert unpacked(packed([1]), Form(list)) == [1]


def test_what_can_not_be_pickled_is_refused_by_name(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(SerializationError) as refused:
        packed({"a": [file]})
    assert str(refused.value).startswith("The input can't be sent: run_input['a'][0] is a _io.TextIOWrapper")


def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_CORE_MAX_PARAMETER_BYTES", "100")
    settings.forget()
    packed("x" * 98)
    with pytest.raises(ValueError, match=r"An input must be no more than 100 bytes when serialized \(got 101 bytes\)"):
        packed("x" * 99)


@pytest.mark.parametrize(
    ("wanted", "channels"),
    [
        (str, {"str-auto"}),
        (None, {"nonetype-auto"}),
        (list[int], {"list-auto"}),
        (int | None, {"int-auto", "nonetype-auto"}),
        (Annotated[int, Field(gt=0)], {"int-auto"}),
        (Literal["a", 1], {"str-auto", "int-auto"}),
        (Answer, {"dict-auto"}),
        (Name, {"str-auto"}),
        (Order, {"order-auto"}),
        (Order.with_initial_data(description="How much?"), {"order-auto"}),
        (Colour | Point, {"colour-auto", "point-auto"}),
    ],
)
def test_a_type_has_the_channels_of_its_classes(wanted: Any, channels: set[str]) -> None:
    assert channels_of(wanted) == channels


@pytest.mark.parametrize("wanted", [Any, object, Sequence[int], int | Any])
def test_a_type_that_names_no_class_has_no_channel(wanted: Any) -> None:
    with pytest.raises(TypeError, match="Inputs are received by the name of their class"):
        channels_of(wanted)
