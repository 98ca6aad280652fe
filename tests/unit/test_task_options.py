"""The options of `@task`: defaults, checks, and `with_options`."""

from __future__ import annotations

import pickle
import re
from functools import partial

import cloudpickle
import pytest

from prefect_core import Task, flow, tags, task
from prefect_core.context import get_run_context
from prefect_core.settings import temporary_settings
from prefect_core.tasks import exponential_backoff

pytestmark = pytest.mark.usefixtures("recorded")


def body(x=1):
    """Do something.

    At length.
    """
    return x


def hook(task, task_run, state):
    pass


def test_a_bare_decorator_and_one_with_options_both_give_a_task() -> None:
    assert isinstance(task(body), Task)
    assert isinstance(task(retries=1)(body), Task)
    assert isinstance(task()(body), Task)


def test_a_task_without_options_has_these() -> None:
    made = task(body)
    assert made.fn is body
    assert (made.name, made.description, made.version, made.tags) == (
        "body",
        "Do something.\n\nAt length.",
        None,
        frozenset(),
    )
    assert (made.retries, made.retry_delay_seconds, made.retry_jitter_factor, made.retry_condition_fn) == (
        0,
        0,
        None,
        None,
    )
    assert (made.timeout_seconds, made.log_prints, made.task_run_name, made.task_runner) == (None, None, None, None)
    assert made.on_completion_hooks == made.on_failure_hooks == made.on_running_hooks == []


def test_a_task_looks_like_its_function() -> None:
    made = task(body)
    assert (made.__name__, made.__doc__, made.__module__, made.__wrapped__) == ("body", body.__doc__, __name__, body)
    assert repr(made) == "Task(name='body')"
    assert made.task_key == f"{__name__}.body"


class Callable:
    def __call__(self, x):
        return x


@pytest.mark.parametrize(
    ("function", "name"),
    [(lambda: 1, "<lambda>"), (Callable(), "Callable"), (partial(body, 1), "body"), (body, "body")],
    ids=["lambda", "callable", "partial", "function"],
)
def test_the_name_comes_from_the_function_or_the_class(function, name: str) -> None:
    assert task(function).name == name


def test_a_name_may_hold_any_character_but_must_be_text() -> None:
    assert task(body, name="a/b % & > <").name == "a/b % & > <"
    with pytest.raises(TypeError, match="'name' must be a string; got 5"):
        task(body, name=5)


def test_tags_are_a_set_and_a_lone_string_is_refused() -> None:
    assert task(body, tags=["a", "b", "a"]).tags == {"a", "b"}
    with pytest.raises(TypeError, match=r"'tags'.*tags=\['a'\]"):
        task(body, tags="a")


def test_a_run_has_the_tags_of_its_task_and_of_the_blocks_around_it(recorded) -> None:
    @flow
    def around():
        with tags("outer"), tags("inner") as current:
            assert current == {"outer", "inner", "flow"}
            task(body, tags=["own"]).submit().wait()
        task(body)()

    with tags("flow"):
        around()
    assert [set(row.tags) for row in recorded.task_runs()] == [{"own", "outer", "inner", "flow"}, {"flow"}]
    assert set(recorded.flow_runs()[0].tags) == {"flow"}


def test_tags_must_be_text() -> None:
    with pytest.raises(TypeError, match="Expected strings for tags; got int instead."), tags("a", 5):
        pass


@pytest.mark.parametrize("decorate", [task, lambda given: task()(given)], ids=["bare", "with options"])
def test_only_a_callable_can_be_a_task(decorate) -> None:
    with pytest.raises(TypeError, match="'fn' must be callable"):
        decorate(5)


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="@task takes no option 'retires'"):
        task(body, retires=3)
    with pytest.raises(TypeError, match="'retires'"):
        task(body).with_options(retires=3)


BAD_NUMBERS = [
    ("retries", -1, ValueError),
    ("retries", 1.5, TypeError),
    ("retries", "3", TypeError),
    ("retries", True, TypeError),
    ("retry_delay_seconds", -1, ValueError),
    ("retry_delay_seconds", float("nan"), ValueError),
    ("retry_delay_seconds", float("inf"), ValueError),
    ("retry_delay_seconds", [1, -2], ValueError),
    ("retry_delay_seconds", [1, "2"], TypeError),
    ("retry_delay_seconds", True, TypeError),
    ("timeout_seconds", 0, ValueError),
    ("timeout_seconds", -0.1, ValueError),
    ("timeout_seconds", float("nan"), ValueError),
    ("timeout_seconds", "1", TypeError),
    ("retry_jitter_factor", -0.1, ValueError),
    ("retry_jitter_factor", float("nan"), ValueError),
    ("retry_jitter_factor", float("inf"), ValueError),
    ("retry_jitter_factor", "1", TypeError),
]


@pytest.mark.parametrize(
    ("option", "value", "error"), BAD_NUMBERS, ids=[f"{option}={value}" for option, value, _ in BAD_NUMBERS]
)
def test_a_bad_number_is_refused_at_decoration_with_option_and_value(option: str, value, error) -> None:
    shown = next((item for item in value if item != 1), None) if isinstance(value, list) else value
    for decorate in (lambda: task(body, **{option: value}), lambda: task(body).with_options(**{option: value})):
        with pytest.raises(error) as caught:
            decorate()
        assert option in str(caught.value)
        assert repr(shown) in str(caught.value)


def test_none_means_the_default() -> None:
    given = dict.fromkeys(
        [
            "name",
            "description",
            "version",
            "tags",
            "retries",
            "retry_delay_seconds",
            "retry_jitter_factor",
            "retry_condition_fn",
        ]
        + ["timeout_seconds", "log_prints", "task_run_name", "task_runner", "on_completion", "on_failure", "on_running"]
    )
    made = task(body, **given)
    assert (made.name, made.retries, made.tags, made.timeout_seconds, made.on_failure_hooks) == (
        "body",
        0,
        frozenset(),
        None,
        [],
    )


def test_retry_delays_may_be_a_number_a_list_or_made_from_the_number_of_retries() -> None:
    assert task(body, retries=3, retry_delay_seconds=2).retry_delay_seconds == 2
    assert task(body, retries=3, retry_delay_seconds=[1, 2.5]).retry_delay_seconds == [1, 2.5]
    assert task(body, retries=3, retry_delay_seconds=(1, 2)).retry_delay_seconds == [1, 2]
    assert task(body, retries=3, retry_delay_seconds=lambda n: [n] * n).retry_delay_seconds == [3, 3, 3]
    assert task(body, retries=3, retry_delay_seconds=exponential_backoff(10)).retry_delay_seconds == [10, 20, 40]


def test_exponential_backoff_makes_at_most_50_delays_and_refuses_a_bad_factor() -> None:
    assert len(exponential_backoff(1)(1000)) == 50
    with pytest.raises(ValueError, match="backoff_factor"):
        exponential_backoff(-1)


@pytest.mark.parametrize("value", ["5", {"a": 1}, object()], ids=lambda value: type(value).__name__)
def test_other_retry_delays_are_refused(value) -> None:
    with pytest.raises(
        TypeError,
        match="Invalid `retry_delay_seconds` provided; must be an int, float, list or callable. Received type",
    ):
        task(body, retry_delay_seconds=value)


def test_more_than_50_retry_delays_are_refused() -> None:
    assert len(task(body, retries=50, retry_delay_seconds=[1] * 50).retry_delay_seconds) == 50
    for delays in ([1] * 51, lambda retries: [1] * 51):
        with pytest.raises(ValueError, match="Can not configure more than 50 retry delays per task."):
            task(body, retries=1, retry_delay_seconds=delays)


def test_a_retry_condition_must_be_callable() -> None:
    with pytest.raises(TypeError, match="Expected `retry_condition_fn` to be callable, got int instead."):
        task(body, retry_condition_fn=5)


@pytest.mark.parametrize("option", ["on_completion", "on_failure", "on_running"])
def test_hooks_must_be_an_iterable_of_callables_and_may_be_empty(option: str) -> None:
    assert getattr(task(body, **{option: []}), f"{option}_hooks") == []
    assert getattr(task(body, **{option: (hook,)}), f"{option}_hooks") == [hook]
    with pytest.raises(TypeError) as caught:
        task(body, **{option: hook})
    assert str(caught.value).startswith(
        f"Expected iterable for '{option}'; got function instead. Please provide a list of hooks to"
    )
    assert f"@task({option}=[hook1, hook2])\ndef my_task():\n\tpass" in str(caught.value)
    with pytest.raises(TypeError, match=f"Expected callables in '{option}'; got str instead. Please provide a list"):
        task(body, **{option: [hook, "test"]})


def test_a_task_run_name_must_be_text_or_callable() -> None:
    with pytest.raises(TypeError, match="Expected string or callable for 'task_run_name'; got int instead."):
        task(body, task_run_name=5)


def test_settings_give_the_default_of_retries() -> None:
    with temporary_settings(task_default_retries=2, task_default_retry_delay_seconds=0.5):
        assert (task(body).retries, task(body).retry_delay_seconds) == (2, 0.5)
        assert task(body, retries=0).retries == 0


# Names of runs.


def names_of(recorded) -> list[str]:
    return [row.name for row in recorded.task_runs()]


def test_runs_are_numbered_by_the_name_of_their_task_from_0(recorded) -> None:
    @flow
    def around():
        for _ in range(2):
            task(body)()
            task(body, name="other").submit().wait()

    around()
    around()
    assert names_of(recorded) == ["body-0", "other-0", "body-1", "other-1"] * 2


def test_a_template_sees_parameters_and_defaults(recorded) -> None:
    @task(task_run_name="{x}-of-{y:>3}-{z[k]}-{args}")
    def named(x, *args, y=2, z=None):
        return get_run_context().task_run.name

    assert named(1, z={"k": "v"}) == "1-of-  2-v-()"
    assert names_of(recorded) == ["1-of-  2-v-()"]


def test_a_template_sees_values_of_futures() -> None:
    named = task(lambda x: get_run_context().task_run.name, task_run_name="x={x}")
    assert flow(lambda: named.submit(task(body).submit(7)).result())() == "x=7"


def test_a_callable_may_take_the_parameters_and_names_once_per_run_not_per_attempt() -> None:
    made = []

    def name(parameters):
        made.append(parameters)
        return f"run-{parameters['x']}"

    @task(task_run_name=name, retries=2)
    def named(x):
        if len(tries := seen) < 2:
            tries.append(1)
            raise ValueError
        return get_run_context().task_run.name

    seen: list[int] = []
    assert named(3) == "run-3"
    assert made == [{"x": 3}]
    assert task(lambda: get_run_context().task_run.name, task_run_name=lambda: "fixed")() == "fixed"


def test_a_name_that_can_not_be_made_fails_the_run() -> None:
    state = task(body, task_run_name="{missing}")(return_state=True)
    assert "KeyError: 'missing'" in state.message
    state = task(body, task_run_name=lambda: 5)(return_state=True)
    assert "for 'task_run_name' returned type int but a string is required." in state.message
    with pytest.raises(TypeError):
        state.result()
    state = task(body, task_run_name=lambda: 1 / 0).submit().wait()
    assert "ZeroDivisionError" in state.message


# with_options.


def test_with_options_changes_only_what_is_given_and_leaves_the_first_alone() -> None:
    first = task(
        body,
        name="first",
        retries=3,
        tags=["a"],
        on_failure=[hook],
        timeout_seconds=5,
        version="1",
        task_run_name="{x}",
    )
    second = first.with_options(retries=0)
    assert second is not first
    assert (first.retries, second.retries) == (3, 0)
    assert (second.name, second.tags, second.on_failure_hooks, second.timeout_seconds) == ("first", {"a"}, [hook], 5)
    assert (second.version, second.task_run_name, second.fn) == ("1", "{x}", body)


def test_with_options_takes_none_and_empty_lists_at_their_word() -> None:
    first = task(
        body,
        name="first",
        retries=3,
        tags=["a"],
        on_failure=[hook],
        timeout_seconds=5,
        log_prints=True,
        description="d",
    )
    second = first.with_options(
        name=None, retries=None, tags=[], on_failure=[], timeout_seconds=None, log_prints=None, description=None
    )
    assert (second.name, second.retries, second.tags, second.on_failure_hooks) == ("body", 0, frozenset(), [])
    assert (second.timeout_seconds, second.log_prints) == (None, None)
    assert second.description == first.with_options(description="").description == "Do something.\n\nAt length."


def test_tags_given_later_replace_and_do_not_merge() -> None:
    assert task(body, tags=["a"]).with_options(tags=["b"]).tags == {"b"}


def test_delays_made_by_a_callable_are_made_anew_for_the_new_number_of_retries() -> None:
    first = task(body, retries=2, retry_delay_seconds=exponential_backoff(1))
    assert first.with_options(retries=4).retry_delay_seconds == [1, 2, 4, 8]


def test_hooks_added_later_are_carried_over_but_not_shared() -> None:
    first = task(body)
    first.on_failure(hook)
    second = first.with_options(retries=1)
    second.on_failure(print)
    assert (first.on_failure_hooks, second.on_failure_hooks) == ([hook], [hook, print])


def test_a_subclass_stays_one() -> None:
    class Special(Task):
        pass

    assert type(Special(body).with_options(retries=1)) is Special


# Pickling.


def test_a_task_survives_cloudpickle_with_its_options_and_hooks() -> None:
    made = task(lambda x: x + 1, name="inc", retries=2, tags=["a"], retry_delay_seconds=[1])
    made.on_failure(hook)
    loaded = pickle.loads(cloudpickle.dumps(made))
    assert (loaded.name, loaded.retries, loaded.tags, loaded.retry_delay_seconds) == ("inc", 2, {"a"}, [1])
    assert len(loaded.on_failure_hooks) == 1
    assert loaded(1) == 2


# Isolation.


@pytest.mark.parametrize("bad", ["thread", "processes", True, 1, ""])
def test_isolation_is_a_process_or_nothing(bad) -> None:
    with pytest.raises(ValueError, match=r"'isolation' must be \"process\" or None; got " + re.escape(repr(bad))):
        task(lambda: 1, isolation=bad)
    with pytest.raises(ValueError, match="'isolation' must be"):
        task(lambda: 1).with_options(isolation=bad)


def test_isolation_is_kept_and_changed_like_other_options() -> None:
    plain = task(lambda: 1)
    isolated = plain.with_options(isolation="process")
    assert (plain.isolation, isolated.isolation) == (None, "process")
    assert isolated.with_options(name="renamed").isolation == "process"
    assert isolated.with_options(isolation=None).isolation is None


def test_a_generator_task_cannot_be_isolated() -> None:
    def numbers():
        yield 1

    with pytest.raises(ValueError, match="'isolation' can't be 'process' for a generator task"):
        task(numbers, isolation="process")
