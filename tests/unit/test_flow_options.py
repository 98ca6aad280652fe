"""The options of `@flow`: defaults, checks, names, and `with_options`."""

from __future__ import annotations

import datetime as dt
import hashlib
import pickle
from functools import partial
from pathlib import Path

import cloudpickle
import pytest

from prefect_core import Flow, flow
from prefect_core.context import FlowRunContext, get_run_context
from prefect_core.errors import InvalidNameError
from prefect_core.module_names import marked
from prefect_core.settings import temporary_settings
from prefect_core.task_runners import SequentialTaskRunner

pytestmark = pytest.mark.usefixtures("recorded")


def my_body(x=1):
    """Do something."""
    return x


def hook(flow, flow_run, state):
    pass


HOOKS = ["on_completion", "on_failure", "on_cancellation", "on_crashed", "on_running"]


def test_a_bare_decorator_and_one_with_options_both_give_a_flow() -> None:
    assert isinstance(flow(my_body), Flow)
    assert isinstance(flow(retries=1)(my_body), Flow)
    assert isinstance(flow()(my_body), Flow)


def test_a_flow_without_options_has_these() -> None:
    made = flow(my_body)
    assert made.fn is my_body
    assert (made.name, made.description, made.flow_run_name) == ("my-body", "Do something.", None)
    assert (made.retries, made.retry_delay_seconds, made.timeout_seconds, made.log_prints) == (0, 0, None, None)
    assert (made.should_validate_parameters, made.final_state_from, made.task_runner) == (
        True,
        "children",
        "concurrent",
    )
    assert all(getattr(made, f"{name}_hooks") == [] for name in HOOKS)


def test_the_version_is_a_hash_of_the_file_or_what_is_given() -> None:
    digest = hashlib.md5(Path(__file__).read_bytes()).hexdigest()
    assert flow(my_body).version == digest
    assert flow(my_body, version="2").version == "2"
    assert flow(my_body, version="").version == digest
    namespace: dict = {}
    exec("def body(): pass", namespace)
    assert flow(namespace["body"]).version is None


def test_the_run_tells_flow_version_and_runner(recorded) -> None:
    flow(my_body, version="2", task_runner="sequential")()
    row = recorded.flow_runs()[0]
    assert (row.flow_name, row.flow_version, row.runner) == ("my-body", "2", "SequentialTaskRunner")
    assert row.entrypoint == f"{marked(__file__, __name__)}:my_body"


def test_a_flow_looks_like_its_function() -> None:
    made = flow(my_body)
    assert (made.__name__, made.__doc__, made.__wrapped__) == ("my_body", my_body.__doc__, my_body)
    assert repr(made) == "Flow(name='my-body')"


class Callable:
    def __call__(self, x=1):
        return x


@pytest.mark.parametrize(
    ("function", "name"),
    [(lambda: 1, "unknown-lambda"), (Callable(), "Callable"), (partial(my_body, 1), "my-body"), (my_body, "my-body")],
    ids=["lambda", "callable", "partial", "function"],
)
def test_the_name_comes_from_the_function_with_dashes(function, name: str) -> None:
    assert flow(function).name == name


def test_a_description_given_wins_over_the_docstring() -> None:
    assert flow(my_body, description="Mine").description == "Mine"
    assert flow(lambda: None).description is None


def test_a_name_that_is_no_text_is_refused_with_advice() -> None:
    with pytest.raises(TypeError) as caught:
        flow(my_body, name=5)
    assert str(caught.value) == "Expected string for flow parameter 'name'; got int instead."
    with pytest.raises(TypeError) as caught:
        flow(my_body, name=hook)
    assert str(caught.value) == (
        "Expected string for flow parameter 'name'; got function instead. "
        "Perhaps you meant to call it? e.g. '@flow(name=get_flow_run_name())'"
    )


@pytest.mark.parametrize("character", "/%&><")
def test_a_name_with_a_forbidden_character_is_refused(character: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        flow(my_body, name=f"my{character}flow")
    assert str(caught.value).startswith(
        f"Name 'my{character}flow' contains an invalid character. Must not contain any of: ["
    )
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("decorate", [flow, lambda given: flow()(given)], ids=["bare", "with options"])
def test_only_a_callable_can_be_a_flow(decorate) -> None:
    with pytest.raises(TypeError, match="'fn' must be callable"):
        decorate(5)


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="@flow takes no option 'retires', 'tags'"):
        flow(my_body, retires=3, tags=[])
    with pytest.raises(TypeError, match="'retires'"):
        flow(my_body).with_options(retires=3)


BAD_VALUES = [
    ("retries", -1, ValueError),
    ("retries", 1.5, TypeError),
    ("retries", "3", TypeError),
    ("retry_delay_seconds", -1, ValueError),
    ("retry_delay_seconds", float("nan"), ValueError),
    ("retry_delay_seconds", [1, 2], TypeError),
    ("retry_delay_seconds", len, TypeError),
    ("timeout_seconds", 0, ValueError),
    ("timeout_seconds", -1, ValueError),
    ("timeout_seconds", "1", TypeError),
    ("task_runner", 5, TypeError),
    ("task_runner", int, TypeError),
    ("final_state_from", "nothing", ValueError),
]


@pytest.mark.parametrize(
    ("option", "value", "error"), BAD_VALUES, ids=[f"{option}={value}" for option, value, _ in BAD_VALUES]
)
def test_a_bad_value_is_refused_at_decoration_with_option_and_value(option: str, value, error) -> None:
    for decorate in (lambda: flow(my_body, **{option: value}), lambda: flow(my_body).with_options(**{option: value})):
        with pytest.raises(error) as caught:
            decorate()
        assert option in str(caught.value)
        assert repr(value) in str(caught.value)


@pytest.mark.parametrize("option", HOOKS)
def test_hooks_must_be_an_iterable_of_callables_and_may_be_empty(option: str) -> None:
    assert getattr(flow(my_body, **{option: []}), f"{option}_hooks") == []
    assert getattr(flow(my_body, **{option: (hook,)}), f"{option}_hooks") == [hook]
    with pytest.raises(TypeError) as caught:
        flow(my_body, **{option: hook})
    assert str(caught.value) == (
        f"Expected iterable for '{option}'; got function instead. Please provide a list of hooks to '{option}':\n\n"
        f"@flow({option}=[hook1, hook2])\ndef my_flow():\n\tpass"
    )
    with pytest.raises(
        TypeError, match=f"Expected callables in '{option}'; got str instead. Please provide a list of hooks"
    ):
        flow(my_body, **{option: [hook, "test"]})


def test_a_flow_run_name_must_be_text_or_callable() -> None:
    with pytest.raises(TypeError, match="Expected string or callable for 'flow_run_name'; got int instead."):
        flow(my_body, flow_run_name=5)


def test_settings_give_the_defaults() -> None:
    with temporary_settings(
        flow_default_retries=2, flow_default_retry_delay_seconds=0.5, final_state_from="return_value"
    ):
        made = flow(my_body)
    assert (made.retries, made.retry_delay_seconds, made.final_state_from) == (2, 0.5, "return_value")


# Names of runs.


def name_of_run(function, *args, **options) -> str:
    def body(*args, **kwargs):
        return get_run_context().flow_run.name

    body.__signature__ = __import__("inspect").signature(function)
    return flow(body, **options)(*args)


def test_a_run_is_named_by_two_words() -> None:
    words = name_of_run(lambda: None).split("-")
    assert len(words) == 2
    assert all(word.isalpha() for word in words)


def test_a_template_sees_coerced_parameters_and_defaults(recorded) -> None:
    @flow(flow_run_name="{name}-on-{date:%A}-{limit}")
    def named(name: str, date: dt.datetime, limit: int = 100):
        return get_run_context().flow_run.name

    assert named("marvin", "2023-05-04T00:00:00") == "marvin-on-Thursday-100"
    assert recorded.flow_runs()[0].name == "marvin-on-Thursday-100"


def test_a_callable_names_the_run_inside_its_context_once_for_all_attempts() -> None:
    seen = []

    def name():
        around = FlowRunContext.get()
        seen.append(around.parameters)
        return f"{around.flow.name}-with-{around.parameters['x']}"

    tries = []

    @flow(flow_run_name=name, retries=1)
    def named(x: int = 3):
        tries.append(1)
        if len(tries) == 1:
            raise ValueError
        return get_run_context().flow_run.name

    assert named() == "named-with-3"
    assert seen == [{"x": 3}]


def test_a_name_that_can_not_be_made_fails_the_run_before_its_body(recorded) -> None:
    def body():
        raise AssertionError("the body must not run")

    state = flow(body, flow_run_name="{missing}")(return_state=True)
    assert state.message == "Flow run encountered an exception: KeyError: 'missing'"
    with pytest.raises(TypeError, match="for 'flow_run_name' returned type int but a string is required."):
        flow(body, flow_run_name=lambda: 5)()
    assert [row.state_type for row in recorded.flow_runs()] == ["FAILED", "FAILED"]


# with_options.


def test_with_options_changes_only_what_is_given_and_leaves_the_first_alone() -> None:
    first = flow(
        my_body, name="first", retries=3, on_failure=[hook], timeout_seconds=5, version="1", flow_run_name="{x}"
    )
    second = first.with_options(retries=0)
    assert (first.retries, second.retries) == (3, 0)
    assert (second.name, second.on_failure_hooks, second.timeout_seconds, second.version) == ("first", [hook], 5, "1")
    assert (second.flow_run_name, second.fn) == ("{x}", my_body)


def test_with_options_takes_none_and_empty_lists_at_their_word() -> None:
    first = flow(
        my_body,
        name="first",
        retries=3,
        on_failure=[hook],
        timeout_seconds=5,
        log_prints=True,
        task_runner=SequentialTaskRunner(),
        validate_parameters=False,
        final_state_from="return_value",
    )
    second = first.with_options(
        name=None,
        retries=None,
        on_failure=[],
        timeout_seconds=None,
        log_prints=None,
        task_runner=None,
        validate_parameters=True,
        final_state_from=None,
    )
    assert (second.name, second.retries, second.on_failure_hooks, second.timeout_seconds) == ("my-body", 0, [], None)
    assert (second.log_prints, second.task_runner, second.should_validate_parameters) == (None, "concurrent", True)
    assert second.final_state_from == "children"


def test_hooks_added_later_are_carried_over_but_not_shared() -> None:
    first = flow(my_body)
    first.on_failure(hook)
    second = first.with_options(retries=1)
    second.on_failure(print)
    assert (first.on_failure_hooks, second.on_failure_hooks) == ([hook], [hook, print])


def test_a_flow_survives_cloudpickle_with_its_options_and_hooks() -> None:
    made = flow(lambda x: x + 1, name="inc", retries=2)
    made.on_failure(hook)
    made(1)
    loaded = pickle.loads(cloudpickle.dumps(made))
    assert (loaded.name, loaded.retries, len(loaded.on_failure_hooks)) == ("inc", 2, 1)
    assert loaded(1) == 2


def test_a_flow_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError, match="'Flow' object has no attribute 'nothing_hooks'"):
        _ = flow(my_body).nothing_hooks


def test_on_crash_is_resume_or_nothing() -> None:
    assert flow(lambda: 1).on_crash is None
    resuming = flow(lambda: 1, on_crash="resume")
    assert resuming.on_crash == "resume"
    assert resuming.with_options(name="other").on_crash == "resume"
    assert resuming.with_options(on_crash=None).on_crash is None
    with pytest.raises(ValueError, match=r"'on_crash' must be 'resume' or None; got 'restart'\."):
        flow(lambda: 1, on_crash="restart")
    with pytest.raises(ValueError, match="'on_crash'.*got True"):
        resuming.with_options(on_crash=True)
