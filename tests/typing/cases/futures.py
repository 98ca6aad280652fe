"""What a type checker knows of futures, states and annotations. Read by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any, assert_type

from prefect_core import (
    PrefectFuture,
    State,
    allow_failure,
    as_completed,
    get_run_logger,
    quote,
    tags,
    task,
    unmapped,
    wait,
)
from prefect_core.states import Completed, Failed


@task
def count(text: str) -> int:
    return len(text)


def waited_for() -> None:
    futures = [count.submit("a"), count.submit("b")]
    done, not_done = wait(futures, timeout=5)
    assert_type(len(done) + len(not_done), int)
    for future in as_completed(futures):
        assert_type(future, PrefectFuture[int])
        assert_type(future.result(timeout=1), int)


async def waited_for_in_a_loop() -> None:
    async for future in as_completed([count.submit("a")]):
        assert_type(future, PrefectFuture[int])
        assert_type(await future, int)


def called_back(future: PrefectFuture[int]) -> None:
    future.add_done_callback(lambda done: print(done))


def states() -> None:
    assert_type(Completed(message="all good"), State)
    state = Failed(message="no")
    assert_type(state.is_failed(), bool)
    assert_type(state.result(raise_on_failure=False), Any)


def annotated() -> None:
    assert_type(unmapped([1]), unmapped[list[int]])
    assert_type(allow_failure(count.submit("a")), allow_failure[PrefectFuture[int]])
    assert_type(quote({"a": 1}).unquote(), dict[str, int])


def around_a_run() -> None:
    with tags("one", "two"):
        get_run_logger().info("counted")
