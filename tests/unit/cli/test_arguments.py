"""How `-p` and `--params` become arguments."""

from __future__ import annotations

import click
import pytest

from prefect_core import flow
from prefect_core.cli.arguments import arguments


@flow
def several(name: str, count: int = 1, *, anything=None):
    pass


@flow
def positional(first, /, second=2):
    pass


@flow
def open_ended(first=1, **further):
    pass


@flow
def without():
    pass


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("1.5", 1.5), ("true", True), ("null", None), ('["a", 1]', ["a", 1]), ('{"a": {"b": []}}', {"a": {"b": []}}),
        ('"quoted"', "quoted"), ("plain text", "plain text"), ("2026-01-31", "2026-01-31"),
        ("", ""), ("a=b", "a=b"), ("{broken", "{broken"),
    ],
)  # fmt: skip
def test_a_value_is_json_where_it_parses_and_else_text(text, value):
    assert arguments(several, ["name=x", f"anything={text}"], None) == ([], {"name": "x", "anything": value})


@pytest.mark.parametrize(
    ("text", "value"), [("01234", "01234"), ("12", "12"), ("true", "true"), ('"12"', "12"), ("abc", "abc")]
)
def test_a_parameter_that_is_annotated_as_text_gets_text(text, value):
    assert arguments(several, [f"name={text}"], None) == ([], {"name": value})


def test_single_parameters_replace_those_of_the_document():
    assert arguments(several, ["count=2"], '{"name": "x", "count": 1}') == ([], {"name": "x", "count": 2})


def test_the_last_of_two_values_counts():
    assert arguments(several, ["name=x", "name=y"], None) == ([], {"name": "y"})


def test_positional_only_parameters_are_passed_by_position():
    assert arguments(positional, ["second=5", "first=4"], None) == ([4], {"second": 5})


def test_a_flow_that_takes_any_name_gets_any_name():
    assert arguments(open_ended, ["colour=red"], None) == ([], {"colour": "red"})


@pytest.mark.parametrize(
    ("subject", "given", "document", "message"),
    [
        (several, ["name"], None, "'name' is not of the form name=value."),
        (several, ["=x"], None, "'=x' is not of the form name=value."),
        (several, [], None, "Flow 'several' needs 'name'; give each as -p name=VALUE."),
        (
            several,
            ["name=x", "colour=red"],
            None,
            "Flow 'several' has no parameter 'colour'; it takes name, count, anything.",
        ),
        (several, ["name=x", "return_state=true"], None, "has no parameter 'return_state'"),
        (open_ended, ["return_state=true"], None, "has no parameter 'return_state'"),
        (without, ["x=1"], None, "Flow 'without' has no parameter 'x'; it takes none."),
        (several, [], "{", "Not valid JSON"),
        (several, [], "[1]", "Expected a JSON object"),
    ],
)
def test_what_the_flow_can_t_be_called_with_is_a_wrong_call(subject, given, document, message):
    with pytest.raises(click.UsageError) as raised:
        arguments(subject, given, document)
    assert message in raised.value.format_message()
