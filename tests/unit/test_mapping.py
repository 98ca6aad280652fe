"""`map`: what is split, what goes to each run whole, and its errors."""

from __future__ import annotations

import asyncio
import io

import pytest

from prefect_core import allow_failure, flow, quote, task, unmapped
from prefect_core.errors import (
    BlockingWaitError,
    MappingLengthMismatch,
    MappingMissingIterable,
    ParameterBindError,
    UpstreamTaskError,
)
from prefect_core.states import Completed

pytestmark = pytest.mark.usefixtures("recorded")


@task
def pair(x, y=0):
    return x, y


@task
def rich(a, /, b, *args, c=3, **kwargs):
    return a, b, args, c, kwargs


@task
def numbers():
    return [1, 2, 3]


@task
def failing(x=None):
    raise ValueError(f"no {x}")


def mapped(function, *args, **kwargs):
    """Map inside a flow and give the values."""
    return flow(lambda: function.map(*args, **kwargs).result())()


@pytest.mark.parametrize(
    "xs",
    [[1, 2], (1, 2), range(1, 3), {1: "a", 2: "b"}, iter([1, 2])],
    ids=lambda xs: type(xs).__name__,
)
def test_each_element_of_an_iterable_gets_a_run_in_order(recorded, xs) -> None:
    assert mapped(pair, xs) == [(1, 0), (2, 0)]
    assert [row.name for row in recorded.task_runs()] == ["pair-0", "pair-1"]


def test_a_generator_is_used_up_once() -> None:
    assert mapped(pair, (n for n in (1, 2)), [3, 4]) == [(1, 3), (2, 4)]


def test_nothing_to_map_over_makes_no_run(recorded) -> None:
    assert mapped(pair, []) == []
    assert recorded.task_runs() == []


@pytest.mark.parametrize(
    "whole", [5, "text", b"bytes", bytearray(b"x"), None, io.StringIO("a\nb")], ids=lambda whole: type(whole).__name__
)
def test_what_is_no_iterable_goes_to_every_run_whole(whole) -> None:
    assert mapped(pair, [1, 2], whole) == [(1, whole), (2, whole)]


def test_what_is_unmapped_goes_to_every_run_whole() -> None:
    assert mapped(pair, [1, 2], unmapped([7, 8, 9])) == [(1, [7, 8, 9]), (2, [7, 8, 9])]
    assert mapped(pair, [1, 2], y=unmapped(numbers(return_state=True))) == [(1, [1, 2, 3]), (2, [1, 2, 3])]


def test_an_iterable_default_is_not_mapped_over() -> None:
    @task
    def body(x, y=(1, 2, 3)):
        return x, y

    assert mapped(body, [1, 2]) == [(1, (1, 2, 3)), (2, (1, 2, 3))]


def test_arguments_of_every_kind_can_be_mapped_over() -> None:
    assert mapped(rich, [1, 2], [3, 4], c=[5, 6], x=[7, 8], y="yy") == [
        (1, 3, (), 5, {"x": 7, "y": "yy"}),
        (2, 4, (), 6, {"x": 8, "y": "yy"}),
    ]


def test_a_future_of_a_list_is_mapped_over_its_elements() -> None:
    assert flow(lambda: pair.map(numbers.submit()).result())() == [(1, 0), (2, 0), (3, 0)]
    assert flow(lambda: pair.map(numbers(return_state=True)).result())() == [(1, 0), (2, 0), (3, 0)]
    assert mapped(pair, Completed(data=[5])) == [(5, 0)]


def test_the_futures_of_one_map_are_the_inputs_of_the_next() -> None:
    @flow
    def body():
        first = pair.map([1, 2], [3, 4])
        return pair.map(first, y=unmapped(first[0])).result()

    assert body() == [((1, 3), (1, 3)), ((2, 4), (1, 3))]


def test_a_failed_element_stops_only_its_own_child() -> None:
    @task
    def odd(x):
        if x % 2 == 0:
            raise ValueError(x)
        return x

    @flow
    def body():
        return [state.name for state in pair.map(odd.map([1, 2, 3]), return_state=True)]

    assert body() == ["Completed", "NotReady", "Completed"]


def test_a_failed_future_can_not_be_mapped_over() -> None:
    with pytest.raises(UpstreamTaskError, match="did not reach a 'COMPLETED' state"):
        mapped(pair, Completed(data=[1]), failing(return_state=True))


def test_failures_may_be_allowed_for_each_element() -> None:
    @task
    def name_of(x):
        return type(x).__name__

    @flow
    def body():
        return name_of.map(allow_failure(failing.map([1, 2]))).result()

    assert body() == ["ValueError", "ValueError"]


def test_a_quoted_iterable_is_split_and_its_elements_stay_quoted() -> None:
    @flow
    def body():
        futures = pair.map([1, 2])
        return [type(value[0]).__name__ for value in pair.map(quote(futures)).result()]

    assert body() == ["PrefectFuture", "PrefectFuture"]


def test_without_an_iterable_there_is_nothing_to_map() -> None:
    with pytest.raises(MappingMissingIterable) as caught:
        mapped(pair, 1, unmapped([2]))
    assert str(caught.value).startswith(
        "No iterable parameters were received. Parameters for map must include at least one iterable. Parameters: {'x': 1, 'y': "
    )


def test_iterables_of_different_lengths_are_refused_with_their_lengths(recorded) -> None:
    with pytest.raises(MappingLengthMismatch) as caught:
        mapped(pair, [1, 2], y=[1, 2, 3])
    assert str(caught.value) == (
        "Received iterable parameters with different lengths. Parameters for map must all be the same length. "
        "Got lengths: {'x': 2, 'y': 3}"
    )
    assert recorded.task_runs() == []


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ParameterBindError):
        mapped(pair, [1], [2], [3])


def test_all_runs_wait_for_the_same_futures() -> None:
    seen = []

    @task
    def first():
        seen.append("first")

    @task
    def then(x):
        seen.append(x)

    @flow
    def body():
        then.map([1, 2], wait_for=[first.submit()]).wait()

    body()
    assert seen[0] == "first"
    assert sorted(seen[1:]) == [1, 2]


def test_return_state_gives_the_states_in_order() -> None:
    states = flow(lambda: quote(pair.map([1, 2], return_state=True)))().unquote()
    assert [state.result() for state in states] == [(1, 0), (2, 0)]


def test_a_map_works_outside_of_flows_and_in_tasks() -> None:
    @task
    def outer():
        return [value[0] for value in pair.map([1, 2]).result()]

    assert pair.map([1, 2]).result() == [(1, 0), (2, 0)]
    assert outer() == [1, 2]


def test_flows_can_be_mapped_too() -> None:
    @flow
    def child(x, y=0):
        return x + y

    assert flow(lambda: child.map([1, 2], y=10).result())() == [11, 12]


def test_a_future_that_is_not_done_must_be_awaited_first_in_an_async_flow() -> None:
    @flow
    async def body():
        go = asyncio.Event()

        @task
        async def slow():
            await go.wait()
            return [1, 2]

        future = slow.submit()
        with pytest.raises(BlockingWaitError, match="Await it first"):
            pair.map(future)
        go.set()
        return await pair.map(await future)

    assert asyncio.run(body()) == [(1, 0), (2, 0)]


def test_a_future_that_is_done_can_be_mapped_over_in_an_async_flow() -> None:
    @flow
    async def body():
        future = numbers.submit()
        await future
        return await pair.map(future)

    assert asyncio.run(body()) == [(1, 0), (2, 0), (3, 0)]
