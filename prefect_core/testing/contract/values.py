"""What a body returns or raises comes back as it is."""

from __future__ import annotations

import functools
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from prefect_core import flow, task
from prefect_core.state_kinds import StateType
from prefect_core.states import Cancelled, Completed, Failed, State
from prefect_core.testing.contract.journal import MakeRunner


class Refusal(Exception):
    """An exception with a constructor of its own."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return Refusal, (self.code, self.reason)


class Doubler:
    """A callable object, and one with methods."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, number: int) -> int:
        return number * self.factor

    def add(self, number: int) -> int:
        return number + self.factor


class Values:
    """Values, exceptions and states."""

    def test_values_of_every_kind_come_back(self, make_runner: MakeRunner) -> None:
        values: list[Any] = [None, 0, "text", b"bytes", 1.5, [1, [2]], {"a": {1}}, (1, 2), {3}, 10**40, "x" * 200_000]

        @task
        def give(value: Any) -> Any:
            return value

        @flow(task_runner=make_runner())
        def run() -> list[Any]:
            return [given.result() for given in [give.submit(value) for value in values]]

        assert run() == values

    def test_an_exception_comes_back_as_itself_with_its_traceback_and_cause(self, make_runner: MakeRunner) -> None:
        @task
        def refuse() -> None:
            try:
                raise KeyError("first")
            except KeyError as error:
                raise Refusal(7, "closed") from error

        @flow(task_runner=make_runner())
        def run() -> State:
            return refuse.submit(return_state=True)

        state = run(return_state=True).data
        assert str(state) == "Failed('Task run encountered an exception Refusal: 7 closed')"
        error = state.data
        assert type(error) is Refusal
        assert (error.code, error.reason) == (7, "closed")
        text = "".join(traceback.format_exception(error))
        assert 'raise Refusal(7, "closed") from error' in text
        assert "KeyError: 'first'" in text

    def test_a_state_made_by_hand_decides_the_end(self, make_runner: MakeRunner) -> None:
        @task
        def end(state: State) -> State:
            return {
                "skip": Completed(name="Skipped", message="nothing new", data=5),
                "fail": Failed(message="by hand"),
                "cancel": Cancelled(message="not today"),
            }[str(state)]

        @flow(task_runner=make_runner())
        def run() -> tuple[State | None, ...]:
            return tuple(end.submit(kind).wait() for kind in ("skip", "fail", "cancel"))

        states = run(return_state=True).data
        assert [str(state) for state in states] == [
            "Skipped('nothing new', type=COMPLETED)",
            "Failed('by hand')",
            "Cancelled('not today')",
        ]
        assert states[0].result() == 5

    def test_what_exits_a_body_crashes_its_run_and_no_other(self, make_runner: MakeRunner) -> None:
        @task
        def leave() -> None:
            raise SystemExit(3)

        @task
        def stay() -> int:
            return 1

        @flow(task_runner=make_runner())
        def run() -> tuple[State | None, int]:
            return leave.submit().wait(), stay.submit().result()

        left, stayed = run()
        assert stayed == 1
        assert left is not None
        assert left.type is StateType.CRASHED
        assert left.message == "Execution was aborted by Python system exit call."

    def test_a_generator_comes_back_as_a_list(self, make_runner: MakeRunner) -> None:
        @task
        def count(limit: int) -> Iterator[int]:
            yield from range(limit)

        @task
        async def count_async(limit: int) -> AsyncIterator[int]:
            for number in range(limit):
                yield number

        @task
        def hand_on(limit: int) -> Iterator[int]:
            return (number for number in range(limit))

        @flow(task_runner=make_runner())
        def run() -> list[Any]:
            return [kind.submit(3).result() for kind in (count, count_async, hand_on)]

        assert run() == [[0, 1, 2]] * 3

    def test_async_bodies_run_in_def_and_async_flows(self, make_runner: MakeRunner) -> None:
        import anyio  # only this test is async

        @task
        async def double(number: int) -> int:
            await anyio.lowlevel.checkpoint()
            return 2 * number

        @task
        async def refuse() -> None:
            await anyio.lowlevel.checkpoint()
            raise Refusal(1, "async")

        @flow(task_runner=make_runner())
        def run() -> list[int]:
            return double.map([1, 2, 3]).result()

        @flow(task_runner=make_runner())
        async def run_async() -> tuple[list[int], BaseException]:
            doubled = double.map(range(20))
            refused = refuse.submit()
            values = await doubled
            try:
                await refused
            except Refusal as error:
                return values, error
            raise AssertionError("nothing was raised")

        assert run() == [2, 4, 6]
        values, error = anyio.run(run_async)
        assert values == [2 * number for number in range(20)]
        assert isinstance(error, Refusal)

    def test_functions_of_every_kind_are_run(self, make_runner: MakeRunner) -> None:
        factor = 3
        kinds: list[Callable[..., Any]] = [
            lambda number: number * factor,
            functools.partial(pow, 2),
            Doubler(5),
            Doubler(5).add,
            len,
        ]

        @flow(task_runner=make_runner())
        def run() -> list[Any]:
            return [
                task(kind, name="kind").submit(value).result()
                for kind, value in zip(kinds, [2, 3, 2, 2, "four"], strict=True)
            ]

        assert run() == [6, 8, 10, 7, 4]

    def test_many_small_tasks_all_come_back(self, make_runner: MakeRunner) -> None:
        @task
        def add_one(number: int) -> int:
            return number + 1

        @flow(task_runner=make_runner())
        def run() -> list[int]:
            return add_one.map(range(300)).result()

        assert run() == list(range(1, 301))
