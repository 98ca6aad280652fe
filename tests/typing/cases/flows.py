"""What a type checker knows of flows. Read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, assert_type

from prefect_core import Flow, State, flow
from prefect_core.futures import PrefectFuture, PrefectFutureList
from prefect_core.task_runners import ConcurrentTaskRunner


@flow
def total(numbers: list[int], scale: float = 1.0) -> float:
    return sum(numbers) * scale


@flow(name="fetch-all", task_runner=ConcurrentTaskRunner(max_workers=4), retries=1, log_prints=True)
async def fetch_all(urls: list[str]) -> dict[str, bytes]:
    return {url: url.encode() for url in urls}


@flow
def no_value() -> None:
    total([1])


def called() -> None:
    assert_type(total([1, 2], scale=0.5), float)
    assert_type(total([1], return_state=True), State)


def submitted() -> None:
    future = total.submit([1])
    assert_type(future.result(), float)
    found: PrefectFuture[float] = future
    assert_type(found.state, State)
    assert_type(total.submit([1], return_state=True), State)
    assert_type(total.map([[1], [2]]), PrefectFutureList[float])
    assert_type(total.map([[1], [2]], return_state=True), list[State])


async def awaited() -> None:
    coroutine: Coroutine[Any, Any, dict[str, bytes]] = fetch_all(["a"])
    assert_type(await coroutine, dict[str, bytes])
    assert_type(await fetch_all(["a"], return_state=True), State)
    assert_type(await fetch_all.submit(["a"]), dict[str, bytes])


def changed() -> None:
    assert_type(total.with_options(name="other")([1]), float)
    assert_type(total.with_options(task_runner="concurrent:8", retries=None)([1]), float)


def with_options_keeps_the_parameters() -> None:
    same: Flow[[list[int], float], float] = total
    same = total.with_options(name="other")
    assert_type(same([1], 2.0), float)
