"""Between the moment when a call is known again and the one when its value is taken over or not: nothing is told, and nothing lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from prefect_core import flow, history, task
from prefect_core.context import get_run_context
from prefect_core.storage.memory import MemoryStorage
from tests.integration.again.attempts import Attempts, end_first, now, ran


class Gated(MemoryStorage):
    """Objects in memory that are read when the gate is open."""

    def __init__(self) -> None:
        super().__init__("gated")
        self.gate = threading.Event()
        self.is_asked = threading.Event()

    def open(self, key: str) -> Any:
        self.is_asked.set()
        assert self.gate.wait(20)
        return super().open(key)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gated]:
    from prefect_core.storage import resolving

    storage = Gated()
    monkeypatch.setitem(resolving._by_url, storage.url, storage)
    yield storage
    storage.gate.set()


class Chain:
    """A stored task whose value is read through the gate, and a stored task or flow behind it."""

    def __init__(self, storage: Gated, behind: str) -> None:
        @task(persist_result=True, result_storage=storage)
        def first() -> list[int]:
            ran("first")
            return [1]

        def body(value: list[int]) -> int:
            ran("second")
            return value[0] + 1

        second: Any = (task if behind == "task" else flow)(persist_result=True)(body)
        self.first, self.second, self.gate = first, second, storage.gate


@pytest.mark.parametrize("behind", ["task", "flow"])
def test_a_flow_that_fails_meanwhile_leaves_what_was_known_to_its_next_attempt(
    attempts: Attempts, storage: Gated, behind: str
) -> None:
    chain = Chain(storage, behind)
    shown: list[list[str]] = []

    @flow(retries=1)
    def main() -> int:
        futures = [chain.first.submit()]
        futures.append(chain.second.submit(futures[0]))
        if now().number == 2 and not shown:
            shown.append([future.state.name for future in futures])
            threading.Timer(0.1, chain.gate.set).start()
            raise ValueError("while the value is read")
        value: int = futures[1].result()
        end_first()
        return value

    attempts.run(main.with_options(retries=0))
    before = attempts.states_of("body")
    assert attempts.run(main).result() == 2
    assert shown == [["Pending", "Pending"]]
    assert attempts.bodies == []
    assert attempts.states_of("body") == before


@pytest.mark.parametrize("behind", ["task", "flow"])
def test_a_retry_that_is_cut_short_leaves_what_was_known_to_the_next(
    attempts: Attempts, storage: Gated, behind: str
) -> None:
    chain = Chain(storage, behind)

    @flow(final_state_from="return_value")
    def main() -> int:
        first = chain.first.submit()
        second = chain.second.submit(first)
        if now().number == 2:
            threading.Timer(0.1, chain.gate.set).start()
            raise KeyboardInterrupt
        value: int = second.result()
        end_first()
        return value

    attempts.run(main)
    before = [attempts.states_of("first"), attempts.states_of("body")]
    assert attempts.run(main).is_crashed()
    assert [attempts.states_of("first"), attempts.states_of("body")] == before
    assert attempts.run(main).result() == 2
    assert attempts.bodies == []


def test_two_bodies_of_one_run_never_run_at_once_though_the_flow_is_tried_again(attempts: Attempts) -> None:
    is_over, running = threading.Event(), set[Any]()

    def body() -> str:
        run = get_run_context().run.id
        assert run not in now().scratch["running"]
        now().scratch["running"].add(run)
        is_first = len(now().scratch["running"]) == 1
        if is_first:
            now().scratch["over"].wait(20)
            now().scratch["running"].discard(run)
        return "first" if is_first else "second"

    attempts.scratch = {"running": running, "over": is_over}
    late = task(body, timeout_seconds=0.2, name="late")

    @flow(retries=1)
    def main() -> Any:
        return late.submit().result()

    try:
        assert attempts.run(main).result() == "second"
    finally:
        is_over.set()


def test_the_history_is_not_told_what_a_run_shows_while_its_value_is_read(attempts: Attempts, storage: Gated) -> None:
    @task(persist_result=True, result_storage=storage, task_run_name="of {number}")
    def named(number: int) -> list[int]:
        ran("named")
        return [number]

    def state_in_the_history() -> tuple[str, str]:
        history.current().flush()
        [row] = history.current().stored().task_runs()
        return row.name, row.state_name

    @flow
    def main() -> Any:
        future = named.submit(5)
        if now().number == 2:
            assert storage.is_asked.wait(20)
            attempts.scratch["row"] = state_in_the_history()
            storage.gate.set()
        value = future.result()
        end_first()
        return value

    attempts.run(main)
    assert attempts.run(main).result() == [5]
    assert attempts.bodies == []
    assert attempts.scratch["row"] == ("of 5", "Completed")
    assert attempts.states_of("named") == [["Pending", "Running", "Completed"]]


def test_what_is_behind_a_cancelled_call_is_not_ready_and_not_cancelled_too(attempts: Attempts) -> None:
    gate, began = threading.Event(), threading.Event()

    @flow(task_runner="concurrent:1")
    def main() -> None:
        blocking.submit()
        assert began.wait(20)
        behind.submit(first.submit(1))
        threading.Timer(0.1, gate.set).start()
        raise ValueError("while the first waits for a thread")

    blocking = task(lambda: began.set() or gate.wait(20), name="blocking")
    first, behind = task(lambda value: value, name="first"), task(lambda value: value, name="behind")
    attempts.run(main)
    assert attempts.states_of("first") == [["Pending", "Cancelled"]]
    assert attempts.states_of("behind") == [["Pending", "NotReady"]]
