"""Parameters: binding, validation, the form in which they are kept, and their size."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, BeforeValidator, Field, v1

from prefect_core import flow, task
from prefect_core.context import get_run_context
from prefect_core.errors import ParameterBindError, ParameterTypeError, ReservedArgumentError, SignatureMismatchError
from prefect_core.parameters import Binder, as_json, check_size
from prefect_core.settings import temporary_settings

pytestmark = pytest.mark.usefixtures("recorded")


class Color(enum.Enum):
    RED = "red"


class Model(BaseModel):
    a: int
    b: float = 1.5


@dataclass
class Point:
    x: int


class Odd:
    """Something that JSON can't hold."""


# Binding.


def plain(a, b=2):
    return a, b


def rich(a, /, b, *args, c=3, **kwargs):
    return a, b, args, c, kwargs


def test_defaults_are_filled_in() -> None:
    assert Binder(plain).bind((1,), {}) == {"a": 1, "b": 2}


def test_variadic_arguments_stand_under_their_own_names() -> None:
    bound = Binder(rich).bind((1, 2, 3, 4), {"x": 5})
    assert bound == {"a": 1, "b": 2, "args": (3, 4), "c": 3, "kwargs": {"x": 5}}


def test_what_was_bound_calls_the_function_with_the_same_arguments() -> None:
    binder = Binder(rich)
    args, kwargs = binder.unbind(binder.bind((1, 2, 3, 4), {"x": 5, "c": 6}))
    assert rich(*args, **kwargs) == (1, 2, (3, 4), 6, {"x": 5})


@given(
    st.lists(st.integers(), min_size=2, max_size=5),
    st.dictionaries(st.sampled_from(["c", "x", "y", "a"]), st.integers()),
)
def test_binding_and_unbinding_agree_with_a_plain_call(args: list[int], kwargs: dict[str, int]) -> None:
    binder = Binder(rich)
    positional, named = binder.unbind(binder.bind(tuple(args), kwargs))
    assert rich(*positional, **named) == rich(*args, **kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "why"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"z": 1}, "got an unexpected keyword argument 'z'"),
        ((1,), {"a": 1}, "multiple values for argument 'a'"),
    ],
)
@pytest.mark.parametrize("decorate", [flow, task], ids=["flow", "task"])
def test_arguments_that_do_not_fit_raise_before_any_run_exists(recorded, decorate, args, kwargs, why: str) -> None:
    decorated = decorate(plain)
    for call in (decorated, decorated.submit):
        with pytest.raises(ParameterBindError) as caught:
            call(*args, **kwargs)
        assert isinstance(caught.value, TypeError)
        text = str(caught.value)
        assert text.startswith(f"Error binding parameters for function 'plain': {why}.")
        assert f"Function 'plain' has signature 'a, b=2' but received args: {args} and kwargs: {list(kwargs)}." in text
    assert recorded.flow_runs() == recorded.task_runs() == []


@pytest.mark.parametrize("decorate", [flow, task], ids=["flow", "task"])
def test_an_async_function_refuses_arguments_when_called_and_not_only_when_awaited(decorate) -> None:
    @decorate
    async def body(a):
        return a

    with pytest.raises(ParameterBindError):
        body(1, 2)


def test_a_type_error_of_the_body_is_not_taken_for_a_misfit() -> None:
    @task
    def body(a):
        raise TypeError("missing a required argument: mine")

    with pytest.raises(TypeError, match="mine") as caught:
        body(1)
    assert not isinstance(caught.value, ParameterBindError)


def test_a_positional_only_parameter_can_not_be_named() -> None:
    with pytest.raises(ParameterBindError, match="Error binding parameters for function 'rich'"):
        task(rich).submit(a=1, b=2)


def test_unknown_parameters_by_name_are_a_signature_mismatch() -> None:
    with pytest.raises(SignatureMismatchError) as caught:
        Binder(plain).unbind({"a": 1, "z": 2})
    assert str(caught.value) == "Function expects parameters ['a', 'b'] but was provided with parameters ['a', 'z']"
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("decorate", [flow, task], ids=["flow", "task"])
@pytest.mark.parametrize("name", ["return_state", "wait_for"])
def test_reserved_names_are_refused_at_decoration(decorate, name: str) -> None:
    namespace: dict[str, Any] = {}
    exec(f"def body({name}): pass\nclass Holder:\n    @classmethod\n    def body(cls, {name}): pass", namespace)
    for function in (namespace["body"], vars(namespace["Holder"])["body"]):
        with pytest.raises(ReservedArgumentError, match=f"'{name}' is a reserved argument name and cannot be used."):
            decorate(function)


def test_parameters_may_be_called_like_anything_else() -> None:
    @flow
    def body(
        self: int,
        fn: int,
        args: int,
        kwargs: int,
        model_config: int,
        copy: int,
        schema: int,
        _private: int,
        json: int = 9,
    ):
        return self, fn, args, kwargs, model_config, copy, schema, _private, json

    assert body("1", "2", "3", "4", "5", "6", "7", _private="8") == (1, 2, 3, 4, 5, 6, 7, 8, 9)


# Validation.


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (int, "5", 5),
        (float, 1, 1.0),
        (bool, "true", True),
        (dt.datetime, "2021-01-01T02:00:19.180906+00:00", dt.datetime(2021, 1, 1, 2, 0, 19, 180906, tzinfo=dt.UTC)),
        (dt.date, "2021-01-01", dt.date(2021, 1, 1)),
        (Color, "red", Color.RED),
        (Model, {"a": "1"}, Model(a=1)),
        (Point, {"x": "3"}, Point(3)),
        (list[int], ("1", 2), [1, 2]),
        (dict[str, list[float]], {"x": ["1.5"]}, {"x": [1.5]}),
        (int | None, None, None),
        (int | str, "a", "a"),
        (Path, "/tmp", Path("/tmp")),
        (UUID, "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
        (Annotated[int, Field(gt=3)], "4", 4),
        (Literal["a", "b"], "a", "a"),
        (Any, "x", "x"),
    ],
    ids=str,
)
def test_values_are_coerced_to_their_annotations(annotation, given, expected) -> None:
    def body(x):
        return x

    body.__annotations__ = {"x": annotation}
    result = flow(body)(given)
    assert result == expected
    assert type(result) is type(expected)


def test_an_instance_of_any_class_is_passed_on_as_the_same_object() -> None:
    @flow
    def body(odd: Odd, model: Model, untouched, anything: Any = None):
        return odd, model, untouched, anything

    odd, model, listed, other = Odd(), Model(a=1), [1], object()
    assert all(
        one is two for one, two in zip(body(odd, model, listed, other), (odd, model, listed, other), strict=True)
    )


def test_each_misfit_is_named(recorded) -> None:
    @flow
    def body(x: int, y: Model, z: str = "ok"):
        raise AssertionError("the body must not run")

    with pytest.raises(ParameterTypeError) as caught:
        body("five", {"a": "one"})
    text = str(caught.value)
    assert text.startswith("Flow run received invalid parameters:\n - x: Input should be a valid integer")
    assert "\n - y.a: Input should be a valid integer" in text
    assert "z" not in text.replace("parsing", "")


def test_invalid_parameters_fail_the_run_without_its_ever_running(recorded) -> None:
    entered = []

    @flow(
        on_failure=[lambda flow, run, state: entered.append(state.name)],
        on_running=[lambda *_: entered.append("Running")],
    )
    def body(x: int):
        entered.append("body")

    state = body("five", return_state=True)
    assert state.message.startswith(
        "Validation of flow parameters failed with error: ParameterTypeError: Flow run received invalid"
    )
    assert recorded.states_of(recorded.flow_runs()[0]) == ["Pending", "Failed"]
    assert entered == ["Failed"]
    with pytest.raises(ParameterTypeError):
        state.result()


def test_without_validation_values_pass_as_given() -> None:
    @flow(validate_parameters=False)
    def body(x: int):
        return x

    assert body("5") == "5"


def test_tasks_do_not_coerce() -> None:
    @task
    def body(x: int):
        return x

    assert body("5") == "5"


def test_defaults_are_validated_too_and_none_stands_for_nothing() -> None:
    @flow
    def body(x: int = "7", date: dt.datetime = None):
        return x, date

    assert body() == (7, None)


def test_variadic_parameters_are_validated_one_by_one() -> None:
    @flow
    def body(*args: int, **kwargs: float):
        return args, kwargs

    assert body("1", 2, a="1.5") == ((1, 2), {"a": 1.5})
    with pytest.raises(ParameterTypeError, match=r"args\.1: Input should be a valid integer"):
        body(1, "x")
    with pytest.raises(ParameterTypeError, match=r"kwargs\.a: Input should be a valid number"):
        body(a="x")


def test_keyword_only_and_positional_only_parameters_stay_so() -> None:
    @flow
    def body(a: int, /, b: int, *, c: int):
        return a, b, c

    assert body("1", "2", c="3") == (1, 2, 3)


def test_a_default_written_as_a_pydantic_field_is_unwrapped_and_made_anew_for_each_run() -> None:
    @flow
    def body(x: int = Field(default=3), y=Field(default_factory=list)):
        y.append(x)
        return x, y

    assert body() == (3, [3])
    assert body() == (3, [3])


UNVALIDATED = pytest.mark.parametrize(
    "decorate", [task, partial(flow, validate_parameters=False)], ids=["task", "flow without validation"]
)


@UNVALIDATED
def test_a_default_written_as_a_pydantic_field_is_unwrapped_where_nothing_is_validated_too(decorate) -> None:
    made = []

    @decorate
    def body(a, x: int = Field(default="3", gt=5), *rest, y=Field(default_factory=list), z: int = Field(7), **more):
        made.append(y)
        return a, x, rest, y, z, more

    plain = (1, "3", (), [], 7, {})
    assert body(1) == body.submit(1).result() == plain
    assert body.map([1]).result() == [plain]
    assert len({id(value) for value in made}) == 3
    assert body(1, 2, 3, y=4, z=5, w=6) == (1, 2, (3,), 4, 5, {"w": 6})
    assert body(a=flow(lambda: task(lambda: 1).submit())(), w=2) == (1, "3", (), [], 7, {"w": 2})


@UNVALIDATED
def test_a_field_without_a_default_is_required_where_nothing_is_validated_too(recorded, decorate) -> None:
    @decorate
    def body(a, /, x=Field(gt=3)):
        return a, x

    assert body(1, 2) == (1, 2)
    for call in (body, body.submit):
        with pytest.raises(ParameterBindError, match=r"missing a required argument: 'x'[\s\S]*kwargs: \['a'\]"):
            call(1)
    assert len(recorded.flow_runs()) + len(recorded.task_runs()) == 1


def test_all_attempts_of_a_run_get_the_same_default() -> None:
    seen = []

    @task(retries=1)
    def body(x=Field(default_factory=object)):
        seen.append(x)
        assert len(seen) > 1

    body()
    assert seen[0] is seen[1]


@pytest.mark.skipif(
    not hasattr(Field(default_factory=list), "default_factory_takes_validated_data"),
    reason="pydantic passes nothing to a factory before 2.10",
)
@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_a_default_may_be_made_of_the_parameters_before_it(decorate) -> None:
    @decorate
    def body(x: int, y: int = Field(default_factory=lambda before: before["x"] * 2)):
        return x, y

    assert body(2) == (2, 4)


def test_a_field_without_a_default_is_required_and_its_limits_hold() -> None:
    @flow
    def body(x: int = Field(gt=3)):
        return x

    assert body("4") == 4
    with pytest.raises(ParameterTypeError, match="x: Input should be greater than 3"):
        body(3)
    with pytest.raises(ParameterTypeError, match="x: Field required"):
        body()


class LaterDefined(BaseModel):
    inner: Inner


class Inner(BaseModel):
    a: int


def test_forward_references_are_resolved_when_first_called() -> None:
    @flow
    def body(x: LaterDefined, y: list[Inner]):
        return x.inner.a, y[0].a

    assert body({"inner": {"a": "1"}}, [{"a": "2"}]) == (1, 2)


def test_an_annotation_that_means_nothing_at_run_time_lets_the_value_pass() -> None:
    def body(x, y):
        return x, y

    body.__annotations__ = {"x": "OnlyForTypeCheckers", "y": "int"}
    assert flow(body)("a", "1") == ("a", 1)


def test_a_signature_that_pydantic_can_not_model_says_what_to_do() -> None:
    def body(x):
        return x

    body.__annotations__ = {"x": Annotated[int, Field(discriminator="kind")]}
    with pytest.raises(
        ValueError, match="not compatible with `validate_parameters`.*Disable validation or change the argument names"
    ):
        flow(body)(1)
    assert flow(body, validate_parameters=False)(1) == 1


class Old(v1.BaseModel):
    a: int


def test_a_model_of_pydantic_1_is_refused_with_its_reason() -> None:
    @flow
    def body(x: Old, y: Model):
        return x

    with pytest.raises(
        ParameterTypeError,
        match="Cannot mix Pydantic v1 and v2 types as arguments to a flow. 'x' is annotated with Old",
    ):
        body({"a": 1}, {"a": 1})


# What is kept.


def test_parameters_are_kept_as_json(recorded) -> None:
    @flow(validate_parameters=False)
    def body(a, b, *args, when=None, **kwargs):
        pass

    body(1, Odd(), "x", [2], when=dt.date(2021, 1, 1), model=Model(a=1), path=Path("/tmp/x"))
    kept = recorded.flow_runs()[0].parameters
    assert kept == {
        "a": 1,
        "b": "<Odd>",
        "args": ["x", [2]],
        "when": "2021-01-01",
        "kwargs": {"model": {"a": 1, "b": 1.5}, "path": "/tmp/x"},
    }


def test_the_run_shows_coerced_values_and_defaults() -> None:
    @flow
    def body(x: int, y: str = "default"):
        return get_run_context().flow_run.parameters

    assert body("5") == {"x": 5, "y": "default"}


def test_the_history_shows_the_values_that_the_body_gets(recorded) -> None:
    seen = []

    @flow(flow_run_name="on {day:%A}")
    def body(n: int, day: dt.date, model: Model, upstream: float, y: str = "default"):
        seen.append(recorded.flow_runs("body")[0].parameters)

    flow(lambda: body("5", "2021-01-01", {"a": "1"}, task(lambda: "2.5").submit()))()
    expected = {"n": 5, "day": "2021-01-01", "model": {"a": 1, "b": 1.5}, "upstream": 2.5, "y": "default"}
    row = recorded.flow_runs("body")[0]
    assert [*seen, row.parameters] == [expected, expected]
    assert row.name == "on Friday"


def test_the_history_shows_parameters_that_were_refused_as_they_were_given(recorded) -> None:
    flow(lambda x: x, name="named", flow_run_name="{y}")("5", return_state=True)

    @flow(name="typed")
    def body(x: int, y: int):
        pass

    body("five", "6", return_state=True)
    assert [row.parameters for row in recorded.flow_runs()] == [{"x": "5"}, {"x": "five", "y": "6"}]


def test_the_history_shows_coerced_parameters_of_a_run_whose_name_can_not_be_made(recorded) -> None:
    @flow(flow_run_name="{nowhere}")
    def body(x: int):
        pass

    assert body("5", return_state=True).is_failed()
    assert recorded.flow_runs()[0].parameters == {"x": 5}
    assert recorded.states_of(recorded.flow_runs()[0]) == ["Pending", "Failed"]


def test_the_instance_of_a_method_is_not_a_parameter(recorded) -> None:
    class Pipeline:
        @flow
        def run(self, x):
            return x

    assert Pipeline().run(3) == 3
    assert recorded.flow_runs()[0].parameters == {"x": 3}


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), Odd(), Odd, b"\xff\xfe", {"x": Odd()}, {(1, 2): 3}, object()],
    ids=["nan", "inf", "an object", "a class", "bytes", "a dict of objects", "a dict of tuples", "a bare object"],
)
def test_what_json_can_not_hold_is_kept_by_the_name_of_its_type(value: object) -> None:
    kept = as_json({"x": value})["x"]
    assert kept == f"<{type(value).__name__}>"


def test_a_list_that_holds_itself_is_kept_by_name_too() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert as_json({"x": endless}) == {"x": "<list>"}


@pytest.mark.parametrize("make", [lambda: (i for i in range(3)), lambda: iter([0, 1, 2]), lambda: map(int, "012")])
def test_keeping_the_parameters_uses_up_no_iterator(make) -> None:
    assert flow(lambda x: list(x))(make()) == [0, 1, 2]
    assert flow(lambda x: list(x["deep"][0]))({"deep": [make()]}) == [0, 1, 2]


def test_keeping_the_parameters_opens_and_reads_no_file(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("a\nb\n")
    with path.open() as file:
        assert flow(lambda x: x.read())(file) == "a\nb\n"


# Size.


@pytest.mark.parametrize("length", [600_000, 524_290])
def test_more_than_512_kib_are_refused_before_anything_runs(recorded, length: int) -> None:
    @flow
    def body(small, large):
        raise AssertionError("the body must not run")

    with pytest.raises(ValueError) as caught:
        body(1, large="x" * length)
    text = str(caught.value)
    assert "Flow run parameters must be less than 524,288 bytes when serialized (got " in text
    assert "'large'" in text
    assert "bytes" in text
    assert recorded.states_of(recorded.flow_runs()[0]) == ["Pending", "Failed"]
    assert recorded.flow_runs()[0].parameters == {"small": 1, "large": f"<{length + 2:,} bytes>"}


def padded(value: int) -> str:
    return "x" * value


def test_parameters_that_grow_too_large_by_their_inputs_or_by_validation_are_refused_too(recorded) -> None:
    @flow(name="inner")
    def body(small, large: Annotated[str, BeforeValidator(padded)]):
        raise AssertionError("the body must not run")

    @flow(name="outer")
    def outer():
        return body(1, task(lambda: 600_000).submit(), return_state=True).message

    assert "'large' with 600002 bytes" in outer()
    row = recorded.flow_runs("inner")[0]
    assert recorded.states_of(row) == ["Pending", "Failed"]
    assert len(row.parameters_text) < 100


def test_many_parameters_that_are_too_large_together_stay_small_in_the_history(recorded) -> None:
    def body(**kwargs):
        raise AssertionError("the body must not run")

    kwargs = {f"name_{n}": "x" * 900 for n in range(1000)}
    assert flow(body)(**kwargs, return_state=True).is_failed()
    assert len(recorded.flow_runs()[0].parameters_text) < 100


def test_just_under_the_limit_runs() -> None:
    assert flow(lambda large: len(large))("x" * 524_000) == 524_000


@given(
    st.dictionaries(
        st.text(max_size=5), st.recursive(st.text() | st.integers() | st.none(), st.lists, max_leaves=5), max_size=4
    )
)
def test_the_size_counted_is_that_of_the_compact_json(parameters: dict[str, Any]) -> None:
    import json

    size = len(json.dumps(parameters, separators=(",", ":")))
    with temporary_settings(max_parameter_bytes=max(size, 1)):
        check_size(parameters)
    if parameters:
        with temporary_settings(max_parameter_bytes=size - 1), pytest.raises(ValueError, match=f"got {size} bytes"):
            check_size(parameters)


def test_the_limit_can_be_lifted() -> None:
    with temporary_settings(max_parameter_bytes=0):
        assert flow(lambda large: len(large))("x" * 600_000) == 600_000
