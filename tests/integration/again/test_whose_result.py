"""No call is given another call's result when its flow run is executed again, in whatever order the calls come then."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from prefect_core import flow, task
from tests.integration.again.attempts import Attempts, end_first, now, ran


def tens(ten: int, one: int) -> int:
    """Be the body of them all; that of the first ten fails in the first execution, so that one of two equals is missing."""
    ran(ten)
    if ten == 1 and now().number == 1:
        raise ValueError("not yet")
    return ten * 10 + one


@dataclass(frozen=True)
class Tens:
    ten: int

    def __call__(self, one: int) -> int:
        return tens(self.ten, one)

    def add(self, one: int) -> int:
        return tens(self.ten, one)

    @task(persist_result=True)
    def count(self, one: int) -> int:
        return tens(self.ten, one)


def decorated(ten: int) -> Callable[[int], int]:
    def decorate(function: Callable[[int], int]) -> Callable[[int], int]:
        @functools.wraps(function)
        def call(one: int) -> int:
            return function(one) + tens(ten, one)

        return call

    return decorate(nothing)


def nothing(one: int) -> int:
    return 0


def local(ten: int) -> Callable[[int], int]:
    return lambda one: tens(ten, one)


def redefined(ten: int) -> Callable[[int], int]:
    """Make functions of one name, as the cells of a notebook do."""
    namespace: dict[str, Any] = {"tens": tens, "__name__": __name__}
    exec(f"def again(one):\n    return tens({ten}, one)", namespace)
    function: Callable[[int], int] = namespace["again"]
    return function


CALLEES: dict[str, Callable[[int], Any]] = {
    "partials": lambda ten: functools.partial(tens, ten),
    "bound methods": lambda ten: Tens(ten).add,
    "callable objects": Tens,
    "functions with a decorator": decorated,
    "local functions": local,
    "functions of one name": redefined,
}


@pytest.mark.parametrize("kind", [*CALLEES, "task methods"])
def test_tasks_of_one_function_are_told_apart_by_what_it_is_bound_to(attempts: Attempts, kind: str) -> None:
    @flow(final_state_from="return_value")
    def both() -> dict[int, int]:
        # In the other order the second time, so that neither order nor count may tell who is who.
        order = (1, 2) if now().number == 1 else (2, 1)
        states = {ten: made(ten).submit(5).wait() for ten in order}
        end_first()
        return {ten: state.result() for ten, state in states.items()}

    def made(ten: int) -> Any:
        if kind == "task methods":
            return Tens(ten).count
        return task(CALLEES[kind](ten), persist_result=True, name="made")

    attempts.run(both)
    assert attempts.run(both).result() == {1: 15, 2: 25}
    assert attempts.bodies == [1]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_subflows_that_come_in_another_order_get_their_own_results(attempts: Attempts, backend: str) -> None:
    @task(persist_result=True)
    async def load(number: int) -> int:
        ran(number)
        return number * 10

    @flow(persist_result=True)
    async def part(number: int) -> int:
        return await load(number)

    @flow
    async def whole() -> list[int]:
        found: dict[int, int] = {}

        async def one(number: int) -> None:
            found[number] = await part(number)

        async with anyio.create_task_group() as group:
            for number in range(8) if now().number == 1 else reversed(range(9)):
                group.start_soon(one, number)
        end_first()
        return [found[number] for number in range(9)]

    attempts.run(whole, backend=backend)
    assert attempts.run(whole, backend=backend).result() == [number * 10 for number in range(9)]
    assert attempts.bodies == [8]


@pytest.mark.parametrize("is_flow", [True, False])
def test_equal_nested_calls_in_parents_that_empty_their_arguments_stay_with_their_parents(
    attempts: Attempts, is_flow: bool
) -> None:
    @task(persist_result=True)
    def nested() -> str:
        ran("nested")
        return now().scratch["parent"]

    def emptying(names: list[str]) -> str:
        now().scratch["parent"] = names.pop()
        return nested()

    parent: Any = flow(emptying) if is_flow else task(emptying)

    @flow
    def around() -> list[str]:
        order = ["a", "b"] if now().number == 1 else ["b", "a"]
        found = {name: parent([name]) for name in order}
        end_first()
        return [found["a"], found["b"]]

    attempts.run(around)
    assert attempts.run(around).result() == ["a", "b"]
    assert attempts.bodies == []


def test_the_map_of_a_task_over_futures_gives_each_its_own(attempts: Attempts) -> None:
    @task(persist_result=True)
    def load(number: int) -> int:
        ran(("load", number))
        return number % 2

    @task(persist_result=True)
    def name(value: int, number: int) -> str:
        ran(("name", number))
        if number == 3 and now().number == 1:
            raise ValueError("not yet")
        return f"{value} of {number}"

    @flow(final_state_from="return_value")
    def around() -> list[str]:
        loaded = load.map(range(6))
        named = name.map(loaded, range(6))
        named.wait()
        end_first()
        return named.result()

    attempts.run(around)
    assert attempts.run(around).result() == [f"{number % 2} of {number}" for number in range(6)]
    assert attempts.bodies == [("name", 3)]


def test_what_stands_for_equal_calls_is_an_equal_call(attempts: Attempts) -> None:
    @task(persist_result=True)
    def draw() -> int:
        ran("draw")
        return len(now().bodies)

    @flow
    def around() -> list[int]:
        drawn = [draw.submit() for _ in range(5)]
        values = [one.result() for one in drawn]
        end_first()
        return sorted(values)

    attempts.run(around)
    assert attempts.run(around).result() == [1, 2, 3, 4, 5]
    assert attempts.bodies == []
