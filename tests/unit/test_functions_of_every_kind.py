"""Tasks and flows of functions of every kind: called, submitted and mapped."""

from __future__ import annotations

import asyncio
import functools
import sys
from functools import partial

import anyio
import anyio.lowlevel
import pytest
import trio

from prefect_core import context, flow, task
from prefect_core.context import get_run_context
from prefect_core.errors import ParameterBindError

pytestmark = pytest.mark.usefixtures("recorded")


def plain(x, y=1):
    return x + y


async def coroutine(x, y=1):
    await anyio.lowlevel.checkpoint()
    return x + y


class Object:
    def __call__(self, x, y=1):
        return x + y


class AsyncObject:
    async def __call__(self, x, y=1):
        return x + y


class Holder:
    start = 100

    def __init__(self):
        self.start = 10

    def method(self, x, y=1):
        return self.start + x + y

    @classmethod
    def of_class(cls, x, y=1):
        return cls.start + x + y

    @staticmethod
    def static(x, y=1):
        return x + y

    async def amethod(self, x, y=1):
        return self.start + x + y


@functools.wraps(plain)
def wrapped(*args, **kwargs):
    return plain(*args, **kwargs)


def closure(offset):
    return lambda x, y=1: x + y + offset


KINDS = {
    "def": (plain, 0),
    "async def": (coroutine, 0),
    "lambda": (lambda x, y=1: x + y, 0),
    "object": (Object(), 0),
    "async object": (AsyncObject(), 0),
    "partial": (partial(plain, y=6), 5),
    "async partial": (partial(coroutine, y=6), 5),
    "partial of partial": (partial(partial(plain), y=6), 5),
    "partial of object": (partial(Object(), y=6), 5),
    "bound method": (Holder().method, 10),
    "bound async method": (Holder().amethod, 10),
    "bound class method": (Holder.of_class, 100),
    "static method": (Holder.static, 0),
    "wrapped": (wrapped, 0),
    "closure": (closure(7), 7),
}


async def _settle(awaitable):
    return await awaitable


def called(value):
    """Give the value of a direct call, of either colour."""
    return asyncio.run(_settle(value)) if asyncio.iscoroutine(value) else value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_a_function_of_any_kind_runs_when_called_submitted_and_mapped(decorate, kind: str) -> None:
    function, offset = KINDS[kind]
    made = decorate(function)
    assert called(made(1)) == 2 + offset
    assert called(made(x=1)) == 2 + offset
    assert made.submit(1).result() == 2 + offset
    assert made.map([1, 2]).result() == [2 + offset, 3 + offset]
    assert flow(lambda: [called(made(1)), made.submit(2).result()])() == [2 + offset, 3 + offset]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_function_of_any_kind_runs_inside_an_async_flow(decorate, kind: str, loop: str) -> None:
    function, offset = KINDS[kind]
    made = decorate(function)

    @flow
    async def around():
        value = made(1)
        return await value if asyncio.iscoroutine(value) else value, await made.submit(2), await made.map([3, 4])

    expected = (2 + offset, 3 + offset, [4 + offset, 5 + offset])
    assert (asyncio.run(around()) if loop == "asyncio" else trio.run(around)) == expected


# Methods decorated inside a class.


class Pipeline:
    base = 100

    def __init__(self, base):
        self.base = base

    @task
    def task_method(self, x):
        return self.base + x

    @flow
    def flow_method(self, x: int):
        return self.base + x

    @task
    async def async_task_method(self, x):
        return self.base + x

    @flow
    async def async_flow_method(self, x: int):
        return self.base + x

    @task
    @classmethod
    def task_over_class(cls, x):
        return cls.base + x

    @classmethod
    @task
    def class_over_task(cls, x):
        return cls.base + x

    @flow
    @classmethod
    def flow_over_class(cls, x: int):
        return cls.base + x

    @classmethod
    @flow
    def class_over_flow(cls, x: int):
        return cls.base + x

    @task
    @staticmethod
    def task_over_static(x):
        return x

    @staticmethod
    @task
    def static_over_task(x):
        return x

    @flow
    @staticmethod
    def flow_over_static(x: int):
        return x

    @staticmethod
    @flow
    def static_over_flow(x: int):
        return x


METHODS = {
    "task_method": 5,
    "flow_method": 5,
    "async_task_method": 5,
    "async_flow_method": 5,
    "task_over_class": 100,
    "class_over_task": 100,
    "flow_over_class": 100,
    "class_over_flow": 100,
    "task_over_static": 0,
    "static_over_task": 0,
    "flow_over_static": 0,
    "static_over_flow": 0,
}


# From Python 3.13 on, `classmethod` hands out a bound method of its own around whatever it decorates, which can only be called:
# asked for `submit`, it hands on that of the task, which never learns of the class.
ONLY_CALLED = {"class_over_task", "class_over_flow"} if sys.version_info >= (3, 13) else set()


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_any_kind_runs_from_an_instance(name: str) -> None:
    method, offset = getattr(Pipeline(5), name), METHODS[name]
    assert called(method(1)) == 1 + offset
    assert called(method(x=2)) == 2 + offset
    if name not in ONLY_CALLED:
        assert method.submit(3).result() == 3 + offset
        assert method.map([1, 2]).result() == [1 + offset, 2 + offset]


@pytest.mark.parametrize("name", [name for name in METHODS if "class" in name or "static" in name])
def test_class_and_static_methods_run_from_the_class(name: str) -> None:
    method, offset = getattr(Pipeline, name), METHODS[name]
    assert method(1) == 1 + offset
    if name not in ONLY_CALLED:
        assert method.submit(3).result() == 3 + offset


@pytest.mark.parametrize("name", ["class_over_task", "class_over_flow"])
def test_a_class_method_that_lost_its_class_says_so_and_takes_no_argument_for_it(recorded, name: str) -> None:
    # What Python 3.13 and later make of `Pipeline.class_over_task.submit`; the same object on every version.
    lost = vars(Pipeline)[name].__func__
    for call in (lost.submit, lost.with_options(retries=1), lost):
        with pytest.raises(ParameterBindError, match="put ours above @classmethod"):
            call(1)
        with pytest.raises(
            ParameterBindError, match=r"'cls' is to be a class, and was given 1[^0-9][\s\S]*above @classmethod"
        ):
            call(1, 2)
    with pytest.raises(ParameterBindError, match="put ours above @classmethod"):
        lost.map([1, 2])
    assert recorded.flow_runs() == recorded.task_runs() == []


def test_the_class_of_a_class_method_is_no_parameter(recorded) -> None:
    assert Pipeline.class_over_flow("1") == Pipeline.flow_over_class("1") == 101
    assert Pipeline.flow_over_class.submit("1").result() == 101
    # As from Python 3.13 on.
    assert vars(Pipeline)["class_over_flow"].__func__(Pipeline, "1") == 101
    assert [row.parameters for row in recorded.flow_runs()] == [{"x": 1}] * 4


def test_a_parameter_called_cls_is_like_any_other_outside_of_a_class() -> None:
    @task
    def body(cls, x=1):
        return cls, x

    assert body.submit(5).result() == body(5) == (5, 1)


def test_each_instance_has_a_method_of_its_own() -> None:
    one, other = Pipeline(1), Pipeline(2)
    first = one.task_method
    assert [first(0), other.task_method(0), first(0)] == [1, 2, 1]
    assert Pipeline.task_method(one, 5) == 6


def test_methods_keep_their_options() -> None:
    class Named:
        @task(name="special", retries=2)
        def method(self):
            return get_run_context().task_run.name

    assert Named().method.name == "special"
    assert Named().method.with_options(name="other").name == "other"
    assert Named().method.with_options(name="other")().startswith("other-")


def test_a_class_method_of_a_subclass_gets_the_subclass() -> None:
    class Sub(Pipeline):
        base = 1000

    assert Sub.task_over_class(1) == Sub.class_over_task(1) == Sub.flow_over_class(1) == 1001


# Generators.


def count(n):
    yield from range(n)
    return "end"


async def acount(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i


async def collected(generator):
    return [value async for value in generator]


DECORATORS = pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])


def states_of_only_run(recorded, decorate, name: str) -> list[str]:
    rows = recorded.task_runs(name) if decorate is task else recorded.flow_runs(name)
    assert len(rows) == 1
    return recorded.states_of(rows[0])


@DECORATORS
def test_a_generator_is_consumed_lazily(recorded, decorate) -> None:
    steps = []

    @decorate(name="g")
    def body():
        for i in range(3):
            steps.append(i)
            yield i

    values = body()
    assert steps == []
    assert next(values) == 0
    assert steps == [0]
    assert list(values) == [1, 2]
    assert states_of_only_run(recorded, decorate, "g") == ["Pending", "Running", "Completed"]


@DECORATORS
def test_what_a_generator_returns_is_its_result(decorate) -> None:
    def around():
        return (yield from decorate(count)(2))

    generator = around()
    assert [next(generator), next(generator)] == [0, 1]
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "end"


@DECORATORS
def test_an_async_generator_is_consumed_lazily(recorded, decorate) -> None:
    made = decorate(acount, name="g")
    assert asyncio.run(collected(made(3))) == [0, 1, 2]
    assert states_of_only_run(recorded, decorate, "g") == ["Pending", "Running", "Completed"]


@DECORATORS
@pytest.mark.parametrize("function", [count, acount], ids=["def", "async def"])
def test_a_submitted_generator_gives_the_list_of_its_values(decorate, function) -> None:
    made = decorate(function)
    assert made.submit(3).result() == [0, 1, 2]
    assert made.map([1, 2]).result() == [[0], [0, 1]]


@DECORATORS
@pytest.mark.parametrize("function", [count, acount], ids=["def", "async def"])
def test_a_generator_has_no_state_to_return_before_it_is_consumed(decorate, function) -> None:
    with pytest.raises(ValueError, match=f"The return_type for a generator {decorate.__name__} must be 'result'"):
        decorate(function)(3, return_state=True)


@DECORATORS
def test_a_generator_that_fails_fails_its_run_after_what_it_yielded(recorded, decorate) -> None:
    def body():
        yield 1
        raise ValueError("broken")

    async def abody():
        yield 1
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        for value in decorate(body, name="g")():
            seen.append(value)
    with pytest.raises(ValueError, match="broken"):
        asyncio.run(collected(decorate(abody, name="a")()))
    assert seen == [1]
    assert (
        states_of_only_run(recorded, decorate, "g")
        == states_of_only_run(recorded, decorate, "a")
        == ["Pending", "Running", "Failed"]
    )


@DECORATORS
def test_a_generator_is_retried_from_its_start(recorded, decorate) -> None:
    tries = []

    @decorate(name="g", retries=1)
    def body():
        tries.append(1)
        yield len(tries)
        if len(tries) == 1:
            raise ValueError
        yield "end"

    assert list(body()) == [1, 2, "end"]
    assert states_of_only_run(recorded, decorate, "g")[-1] == "Completed"


@DECORATORS
def test_a_generator_that_nobody_reads_to_its_end_is_closed_and_ended(recorded, decorate) -> None:
    cleaned = []

    @decorate(name="g")
    def body():
        try:
            yield 1
            yield 2
        finally:
            cleaned.append("def")

    @decorate(name="a")
    async def abody():
        try:
            yield 1
            yield 2
        finally:
            cleaned.append("async def")

    async def read_one():
        generator = abody()
        assert await anext(generator) == 1
        await generator.aclose()

    generator = body()
    assert next(generator) == 1
    generator.close()
    asyncio.run(read_one())
    assert cleaned == ["def", "async def"]
    assert states_of_only_run(recorded, decorate, "g") == states_of_only_run(recorded, decorate, "a")
    assert states_of_only_run(recorded, decorate, "g")[-1] in {"Completed", "Cancelled"}
    assert recorded.unfinished() == []


@DECORATORS
def test_values_are_sent_and_exceptions_thrown_into_a_generator(decorate) -> None:
    @decorate
    def body():
        received = yield "ready"
        try:
            yield received * 2
        except KeyError:
            yield "caught"
        return "end"

    generator = body()
    assert next(generator) == "ready"
    assert generator.send(21) == 42
    assert generator.throw(KeyError()) == "caught"
    with pytest.raises(StopIteration):
        next(generator)


@DECORATORS
def test_the_body_of_a_generator_is_in_its_run_and_its_consumer_is_not(decorate) -> None:
    def inside():
        return None if context.current() is None else context.current().run.name

    @decorate
    def body():
        yield inside()
        yield inside()

    @decorate
    async def abody():
        yield inside()
        yield inside()

    seen = []
    for name in body():
        seen.append((name, inside()))

    async def consume():
        async for name in abody():
            seen.append((name, inside()))

    asyncio.run(consume())
    assert all(name is not None and outside is None for name, outside in seen)
    assert len(seen) == 4


def test_a_generator_flow_runs_tasks_and_waits_for_them(recorded) -> None:
    @flow(name="g")
    def body():
        for n in range(3):
            yield task(plain).submit(n).result()
        task(plain).submit(5)

    assert list(body()) == [1, 2, 3]
    assert states_of_only_run(recorded, flow, "g")[-1] == "Completed"
    assert recorded.unfinished() == []


def test_two_generator_flows_may_be_read_in_turns(recorded) -> None:
    @flow
    def body(n):
        yield (get_run_context().flow_run.name, n)
        yield (get_run_context().flow_run.name, n)

    one, other = body(1), body(2)
    seen = [next(one), next(other), next(one), next(other), *one, *other]
    assert seen[0] == seen[2]
    assert seen[1] == seen[3]
    assert seen[0][0] != seen[1][0]
    assert recorded.unfinished() == []


# Generators that are returned.


@DECORATORS
def test_a_returned_generator_is_consumed_to_a_list(decorate) -> None:
    assert decorate(lambda: (n for n in range(3)))() == [0, 1, 2]
    assert decorate(lambda: count(2)).submit().result() == [0, 1]


def test_a_generator_that_a_flow_returns_and_that_fails_fails_the_flow() -> None:
    state = flow(lambda: (1 / n for n in (1, 0)))(return_state=True)
    assert state.message == "Flow run encountered an exception: ZeroDivisionError: division by zero"


def test_other_iterators_are_returned_as_they_are() -> None:
    for value in (iter([1]), map(str, [1]), range(3)):
        assert flow(lambda value=value: value, validate_parameters=False)() is value
