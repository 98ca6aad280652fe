"""`map` in chunks: items travel together, and each is a run of its own all the same."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prefect_core import context, flow, task
from prefect_core.engine import bundles
from prefect_core.testing.contract.journal import Journal
from prefect_core.testing.surroundings import Harness, harness
from tests.contract.holding import HoldingTaskRunner


@pytest.fixture(autouse=True)
def world() -> Iterator[Harness]:
    with harness() as world:
        yield world


def chunks() -> list[int]:
    around = context.current()
    assert around is not None
    found: list[int] = around.dispatcher.runner.chunks
    return found


@task(log_prints=True)
def double(number: int) -> int:
    if number % 50 == 0:
        print(f"at {number}")
    return number * 2


def test_items_travel_together_and_are_runs_of_their_own(world: Harness) -> None:
    @flow(task_runner=HoldingTaskRunner())
    def chunked() -> tuple[list[int], list[int]]:
        return double.map(range(100), chunk=30).result(), chunks()

    values, sizes = chunked()
    assert values == [number * 2 for number in range(100)]
    assert sizes == [30, 30, 30, 10]
    runs = {row.name: row for row in world.store.task_runs()}
    assert len(runs) == 100
    assert {row.state_type for row in runs.values()} == {"COMPLETED"}
    assert [row.message for row in world.store.logs(runs["double-50"].key)][0] == "at 50"
    assert world.state_names("double-99") == ["Pending", "Running", "Completed"]


def test_one_that_fails_is_retried_alone_and_the_others_are_not_touched(world: Harness, tmp_path: Any) -> None:
    @task(retries=1)
    def second_time(number: int, folder: str) -> int:
        with open(os.path.join(folder, str(number)), "a") as file:
            file.write("x")
        if number == 7 and os.path.getsize(os.path.join(folder, "7")) == 1:
            raise ValueError("once")
        return number

    @flow(task_runner=HoldingTaskRunner())
    def chunked() -> tuple[list[int], list[int]]:
        return second_time.map(range(20), folder=str(tmp_path), chunk=20).result(), chunks()

    assert chunked() == (list(range(20)), [20])
    assert [len((tmp_path / str(number)).read_text()) for number in range(20)] == [
        2 if n == 7 else 1 for n in range(20)
    ]
    assert world.state_names("second_time-7") == ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]


def test_what_cannot_travel_fails_alone() -> None:
    @flow(task_runner=HoldingTaskRunner())
    def chunked() -> list[str]:
        return [state.name for state in double.map([1, threading.Lock(), 3], chunk=3, return_state=True)]

    assert chunked() == ["Completed", "Failed", "Completed"]


def test_the_size_adapts_to_the_duration() -> None:
    @task
    def slow(_: int) -> None:
        time.sleep(0.03)

    @flow(task_runner=HoldingTaskRunner())
    def adapted() -> tuple[list[int], list[int]]:
        double.map(range(3000), chunk="auto", window=600).wait()
        fast = list(chunks())
        chunks().clear()
        slow.map(range(40), chunk="auto", window=8).wait()
        return fast, list(chunks())

    fast, slow_chunks = adapted()
    assert fast[0] <= 8
    assert max(fast) >= 64
    assert slow_chunks[-1] <= 2


def test_replies_of_a_long_chunk_come_before_its_end(world: Harness) -> None:
    @task
    def pausing(number: int) -> float:
        time.sleep(0.4)
        return time.time()

    @flow(task_runner=HoldingTaskRunner())
    def chunked() -> tuple[bool, int]:
        futures = pausing.map(range(5), chunk=5)
        futures[0].result()
        return futures[4].done(), sum(future.done() for future in futures)

    is_over, ended = chunked()
    assert not is_over
    assert ended < 5


def test_dependents_and_nested_calls_in_a_chunk() -> None:
    @task
    def inner(number: int) -> int:
        return number + 1

    @task
    def outer(number: int) -> int:
        return inner.submit(number).result()

    @flow(task_runner=HoldingTaskRunner())
    def chunked() -> list[int]:
        return outer.map(double.map(range(20), chunk=10), chunk=10).result()

    assert chunked() == [number * 2 + 1 for number in range(20)]


def test_what_waits_for_company_is_cancelled_with_its_flow(
    world: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bundles, "_WAIT_SECONDS", 60.0)
    journal = Journal(tmp_path / "journal")

    @task
    def held() -> int:
        journal.wait_for("go")
        return 1

    @flow(task_runner=HoldingTaskRunner())
    def run() -> None:
        first = held.submit()
        late = double.map([first] * 3, chunk=10)
        journal.note("go")
        first.wait()
        assert not any(one.done() for one in late)
        raise KeyError("enough")

    begun = time.monotonic()
    assert run(return_state=True).is_failed()
    assert time.monotonic() - begun < 15
    assert [world.state_names(f"double-{number}")[-1] for number in range(3)] == ["Cancelled"] * 3


def test_other_runners_take_no_notice(world: Harness) -> None:
    @flow
    def concurrent() -> list[int]:
        return double.map(range(5), chunk=2).result()

    assert concurrent() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("chunk", [0, -1, 1.5, "many", True])
def test_a_chunk_is_a_number_from_one_or_auto(chunk: Any) -> None:
    @flow
    def wrong() -> Any:
        return double.map([1], chunk=chunk)

    with pytest.raises((TypeError, ValueError), match="'chunk' must"):
        wrong()
