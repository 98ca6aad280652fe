"""`map` with a window: elements are taken as there is room, chained maps go depth first, and what nobody asked for runs too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from prefect_core import flow, task
from prefect_core.errors import MappingLengthMismatch
from prefect_core.futures import PrefectFutureList
from prefect_core.testing.surroundings import Harness, harness


@pytest.fixture(autouse=True)
def world() -> Iterator[Harness]:
    with harness() as world:
        yield world


@task
def same(number: int) -> int:
    return number


@task
def plus_one(number: int) -> int:
    return number + 1


class Source:
    """Counts what is taken of it."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        for number in range(self.length):
            self.taken += 1
            yield number


@pytest.mark.parametrize("runner", ["sequential", "concurrent", "concurrent:1", "processes:1"])
def test_values_come_in_order_and_no_more_than_the_window_is_under_way(runner: str) -> None:
    source = Source(40)

    @flow(task_runner=runner)
    def windowed() -> tuple[list[int], int]:
        stream = same.map(source, window=3)
        return [future.result() for future in stream], len(list(stream))

    assert windowed() == (list(range(40)), 0)


def test_no_element_is_taken_before_there_is_room(world: Harness) -> None:
    source, gate = Source(100), threading.Event()

    @task
    def held(number: int) -> int:
        gate.wait(10)
        return number

    @flow
    def windowed() -> tuple[int, int, int]:
        stream = held.map(source, window=5)
        at_first = source.taken
        futures = [next(stream) for _ in range(5)]
        before = source.taken
        gate.set()
        return at_first, before, sum(future.result() for future in [*futures, *stream])

    assert windowed() == (5, 5, sum(range(100)))


def test_chained_maps_go_depth_first() -> None:
    source = Source(1000)

    @flow
    def chained() -> tuple[int, list[int]]:
        last = plus_one.map(plus_one.map(same.map(source, window=4), window=4), window=4)
        first = next(last).result()
        assert first == 2
        return source.taken, [first, *(future.result() for future in last)]

    taken, values = chained()
    assert taken <= 24
    assert values == [number + 2 for number in range(1000)]


def test_what_nobody_iterates_runs_before_the_flow_ends(world: Harness) -> None:
    @flow
    def forgetful() -> str:
        plus_one.map(same.map(range(30), window=2), window=2)
        return "done"

    assert forgetful() == "done"
    names = [row.task_name for row in world.store.task_runs()]
    assert (names.count("same"), names.count("plus_one")) == (30, 30)
    assert {row.state_type for row in world.store.task_runs()} == {"COMPLETED"}


def test_a_failing_body_leaves_the_rest_of_its_elements_alone() -> None:
    source = Source(1000)

    @flow
    def failing() -> None:
        same.map(source, window=2)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        failing()
    assert source.taken < 10


def test_on_an_event_loop() -> None:
    @task
    async def later(number: int) -> int:
        return number

    @flow
    async def windowed() -> list[int]:
        return [await future async for future in later.map(Source(50), window=3)]

    assert anyio.run(windowed) == list(range(50))


def test_failures_and_states() -> None:
    @task
    def odd_fails(number: int) -> int:
        if number % 2:
            raise ValueError(number)
        return number

    @flow
    def mixed() -> tuple[list[str], list[Any]]:
        states = odd_fails.map(range(4), window=2, return_state=True)
        values = odd_fails.map(range(4), window=2).result(raise_on_failure=False)
        return [state.name for state in states], [str(value) for value in values]

    assert mixed() == (["Completed", "Failed"] * 2, ["0", "1", "2", "3"])


def test_lengths_that_differ_are_told_at_once_or_when_they_show() -> None:
    @task
    def both(left: int, right: int) -> int:
        return left + right

    @flow
    def sized() -> Any:
        return both.map([1, 2], [1], window=1)

    @flow
    def unsized() -> Any:
        return both.map(iter([1, 2, 3]), iter([1, 2]), window=1).result()

    with pytest.raises(MappingLengthMismatch, match="Got lengths"):
        sized()
    with pytest.raises(MappingLengthMismatch, match="'right' has 2 elements, and 'left' more"):
        unsized()


@pytest.mark.parametrize(("window", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_window_is_a_number_from_one(window: Any, error: type[Exception]) -> None:
    @flow
    def wrong() -> Any:
        return same.map([1], window=window)

    with pytest.raises(error, match="'window' must be"):
        wrong()


def test_a_parameter_called_window_is_the_functions_own() -> None:
    @task
    def sized(window: int) -> int:
        return window

    @flow
    def own() -> tuple[bool, list[int]]:
        futures = sized.map(window=[1, 2])
        return isinstance(futures, PrefectFutureList), futures.result()

    assert own() == (True, [1, 2])
