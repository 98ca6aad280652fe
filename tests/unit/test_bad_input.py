"""What nobody should do, and what it gets: an error that says what happened, and never a hang or a run that stays open."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time

import pytest

from prefect_core import flow, task
from prefect_core.errors import NestingTooDeep, PrefectException
from prefect_core.settings import temporary_settings
from prefect_core.states import Completed

pytestmark = pytest.mark.usefixtures("recorded")


@task
def add(x, y=1):
    return x + y


# Tasks that depend on themselves.


def test_a_task_that_is_given_its_own_future_is_told_so(recorded) -> None:
    box, filled = [], threading.Event()

    @task
    def outer():
        filled.wait(30)
        return add.submit(box).result()

    @flow
    def around():
        box.append(outer.submit())
        filled.set()
        return box[0].result()

    with pytest.raises(
        ValueError,
        match="Discovered a task depending on itself. Raising to avoid a deadlock. 'add' was given the future of",
    ):
        around()
    assert recorded.unfinished() == []


@pytest.mark.parametrize(
    "call", [lambda f: add(f), lambda f: add(1, wait_for=[f]), lambda f: add.map([f]), lambda f: flow(add.fn)(f)]
)
def test_a_task_deeper_inside_may_not_wait_for_it_either(recorded, call) -> None:
    box, filled = [], threading.Event()

    @task
    def middle():
        return call(box[0])

    @task
    def outer():
        filled.wait(30)
        return middle()

    @flow
    def around():
        box.append(outer.submit())
        filled.set()
        return box[0].result()

    with pytest.raises(ValueError, match="depending on itself"):
        around()
    assert recorded.unfinished() == []


def test_its_own_finished_earlier_run_is_no_dependency_on_itself() -> None:
    assert flow(lambda: add.submit(add.submit(add.submit(1))).result())() == 4


# Endless generators.


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_an_endless_generator_that_is_returned_is_given_up(recorded, decorate) -> None:
    closed = []

    def endless():
        try:
            while True:
                yield 1
        finally:
            closed.append(1)

    with (
        temporary_settings(max_generator_items=1000),
        pytest.raises(ValueError, match="more than 1,000 items") as caught,
    ):
        decorate(lambda: endless())()
    assert "max_generator_items" in str(caught.value)
    assert closed == [1]
    assert recorded.unfinished() == []


def test_an_endless_generator_that_is_yielded_from_is_fine() -> None:
    @flow
    def body():
        yield from itertools.count()

    generator = body()
    assert list(itertools.islice(generator, 3)) == [0, 1, 2]
    generator.close()


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
def test_an_endless_generator_function_that_is_submitted_is_given_up(recorded, is_async: bool) -> None:
    def endless():
        while True:
            yield 1

    async def aendless():
        while True:
            yield 1

    with temporary_settings(max_generator_items=1000), pytest.raises(ValueError, match="more than 1,000 items"):
        task(aendless if is_async else endless).submit().result()
    assert recorded.unfinished() == []


# Nesting.


def test_a_flow_that_calls_itself_without_an_end_is_told_so(recorded) -> None:
    @flow
    def endless(n=0):
        return endless(n + 1)

    with temporary_settings(max_nesting=50), pytest.raises(NestingTooDeep, match="max_nesting is 50") as caught:
        endless()
    assert isinstance(caught.value, RecursionError)
    assert "calls itself without an end" in str(caught.value)
    assert len(recorded.flow_runs()) == 50
    assert recorded.unfinished() == []


@pytest.mark.parametrize("way", ["called", "submitted"])
def test_a_task_that_calls_itself_without_an_end_is_told_so(recorded, way: str) -> None:
    @task
    def endless():
        return endless() if way == "called" else endless.submit().result()

    with (
        temporary_settings(max_nesting=50),
        pytest.raises(NestingTooDeep, match="Task 'endless' would run 51 runs deep"),
    ):
        endless()
    assert recorded.unfinished() == []


def test_an_async_flow_that_awaits_itself_without_an_end_is_told_so(recorded) -> None:
    @flow
    async def endless():
        return await endless()

    with temporary_settings(max_nesting=50), pytest.raises(NestingTooDeep):
        asyncio.run(endless())
    assert recorded.unfinished() == []


def test_runaway_recursion_under_the_default_setting_ends_with_a_clear_error(recorded) -> None:
    @flow
    def endless():
        return endless()

    with pytest.raises(NestingTooDeep):
        endless()
    assert len(recorded.flow_runs()) == 400
    assert recorded.unfinished() == []


def test_a_hundred_nested_subflows_are_done_in_seconds(recorded) -> None:
    @flow
    def nested(depth):
        return add(0) if depth == 1 else nested(depth - 1)

    started = time.monotonic()
    assert nested(100) == 1
    assert time.monotonic() - started < 5
    assert len(recorded.flow_runs()) == 100


def test_the_recursion_of_the_user_stays_his_own_error() -> None:
    def runaway():
        return runaway()

    before = sys.getrecursionlimit()
    state = task(runaway)(return_state=True)
    assert "RecursionError" in state.message
    assert sys.getrecursionlimit() == before


# Arguments and values that misbehave.


class Hostile:
    """Nothing about it can be asked."""

    def __repr__(self):
        raise RuntimeError("no repr")

    def __eq__(self, other):
        raise RuntimeError("no equality")

    def __bool__(self):
        raise RuntimeError("no truth")

    def __len__(self):
        raise RuntimeError("no length")

    __hash__ = None


@pytest.mark.parametrize("way", ["called", "submitted", "mapped", "flow", "subflow"])
def test_values_that_refuse_every_question_pass_through(recorded, way: str) -> None:
    hostile = Hostile()
    same = {
        "called": lambda: task(lambda x: x)(hostile),
        "submitted": lambda: task(lambda x: x).submit([hostile]).result()[0],
        "mapped": lambda: task(lambda x: x).map([hostile]).result()[0],
        "flow": lambda: flow(lambda x: x)(hostile),
        "subflow": lambda: flow(lambda: (flow(lambda x: x)(hostile),))()[0],
    }[way]()
    assert same is hostile
    assert recorded.unfinished() == []


class HostileError(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
@pytest.mark.parametrize("retries", [0, 1])
def test_an_exception_that_can_not_be_shown_is_raised_all_the_same(recorded, decorate, retries: int) -> None:
    def body():
        raise HostileError

    made = decorate(body, retries=retries)
    with pytest.raises(HostileError):
        made()
    assert made.submit().wait().is_failed()
    assert recorded.unfinished() == []


def test_arguments_that_do_not_fit_are_named_even_if_they_have_no_repr() -> None:
    with pytest.raises(TypeError, match="Error binding parameters for function"):
        add(Hostile(), 2, 3)


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_an_exception_that_is_raised_twice_keeps_its_identity(decorate) -> None:
    error = ValueError("one")

    def body():
        raise error

    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            decorate(body)()
        assert caught.value is error


def test_stop_iteration_from_a_body_is_an_ordinary_failure(recorded) -> None:
    def body():
        raise StopIteration("mine")

    for decorate in (task, flow):
        state = decorate(body)(return_state=True)
        assert state.is_failed()
        assert "StopIteration: mine" in state.message
        assert decorate(body).submit().wait().is_failed()
    assert recorded.unfinished() == []


def test_a_built_in_without_a_signature_says_what_to_do() -> None:
    for decorate in (task, flow):
        with pytest.raises((TypeError, ValueError), match=r"signature"):
            decorate(max)(1, 2)
        assert decorate(lambda *args: max(*args))(1, 2) == 2


def test_a_coroutine_that_is_returned_by_a_plain_function_is_no_surprise() -> None:
    async def inner():
        return 5

    value = task(lambda: inner())()
    assert asyncio.iscoroutine(value)
    value.close()


def test_state_constructors_refuse_what_is_no_field() -> None:
    with pytest.raises(TypeError, match="nothing"):
        Completed(nothing=1)


def test_a_huge_number_of_children_of_a_failed_flow_is_cancelled_quickly(recorded) -> None:
    go, started = threading.Event(), threading.Event()

    @task
    def first():
        started.set()
        go.wait(30)

    @flow(task_runner="concurrent:1")
    def around():
        first.submit()
        add.map(range(5000))
        assert started.wait(30)
        go.set()
        raise KeyError

    with pytest.raises(KeyError):
        around()
    assert recorded.unfinished() == []


def test_a_thread_that_outlives_its_flow_can_not_submit_to_it_any_more(recorded) -> None:
    from prefect_core.context import carried

    ended, outcome = threading.Event(), []

    def late():
        ended.wait(30)
        try:
            outcome.append(add.submit(1).wait().name)
        except PrefectException as error:
            outcome.append(type(error).__name__)

    @flow
    def around():
        thread = threading.Thread(target=carried(late))
        thread.start()
        threads.append(thread)

    threads = []
    around()
    ended.set()
    threads[0].join(30)
    assert outcome == ["Cancelled"]
    assert recorded.unfinished() == []
