"""What a type checker knows of tasks. Read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any, assert_type

from prefect_core import PrefectFuture, State, Task, task, unmapped
from prefect_core.futures import PrefectFutureList


@task
def count(text: str) -> int:
    return len(text)


@task(retries=3, retry_delay_seconds=[1, 2.5], tags=["io"], timeout_seconds=10)
def join(left: str, *, right: str = "") -> str:
    return left + right


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task
def lines(text: str) -> Generator[str, None, None]:
    yield from text.splitlines()


@task
async def events(topic: str) -> AsyncGenerator[int, None]:
    yield len(topic)


def called() -> None:
    same: Task[[str], int] = count
    assert_type(same("a"), int)
    assert_type(count("a"), int)
    assert_type(join("a", right="b"), str)
    assert_type(count("a", return_state=True), State)
    assert_type(lines("a"), Generator[str, None, None])
    assert_type(events("a"), AsyncGenerator[int, None])


def submitted() -> None:
    assert_type(count.submit("a"), PrefectFuture[int])
    assert_type(count.submit("a").result(), int)
    assert_type(count.submit("a").wait(), State | None)
    assert_type(count.submit("a", wait_for=[join.submit("b")]), PrefectFuture[int])
    assert_type(count.submit("a", return_state=True), State)
    assert_type(count.submit(join.submit("a")), PrefectFuture[int])


def mapped() -> None:
    assert_type(count.map(["a", "b"]), PrefectFutureList[int])
    assert_type(count.map(["a", "b"]).result(), list[int])
    assert_type(count.map(["a", "b"])[0], PrefectFuture[int])
    assert_type(join.map(["a", "b"], right=unmapped("c")), PrefectFutureList[str])
    assert_type(count.map(["a", "b"], return_state=True), list[State])


async def awaited() -> None:
    coroutine: Coroutine[Any, Any, bytes] = fetch("a")
    assert_type(await coroutine, bytes)
    assert_type(await fetch("a", return_state=True), State)
    assert_type(fetch.submit("a"), PrefectFuture[bytes])
    assert_type(await fetch.submit("a"), bytes)
    assert_type(fetch.map(["a"]), PrefectFutureList[bytes])
    assert_type(await fetch.map(["a"]), list[bytes])
    assert_type(await count.submit("a"), int)


def changed() -> None:
    other: Task[[str], int] = count.with_options(name="other", retries=2)
    assert_type(other("a"), int)
    assert_type(count.with_options(name="other")("a"), int)
    assert_type(join.with_options(task_runner="processes:2").submit("a"), PrefectFuture[str])
