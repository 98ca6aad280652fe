"""Chains of quick tasks go together: each gets what the one before it has made in the same chunk, and nobody is worse off for it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_core import flow, history, task
from prefect_core.engine import gathering
from prefect_core.states import Completed
from tests.contract.holding import HoldingTaskRunner

pytestmark = pytest.mark.slow

started: list[HoldingTaskRunner] = []
failed: set[int] = set()
LARGE = 100_000


class Watched(HoldingTaskRunner):
    """A distant runner that tells what it was handed."""

    def start(self, host: object) -> None:
        super().start(host)  # type: ignore[arg-type]  # a host
        started.append(self)


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> None:
    started.clear()
    failed.clear()
    monkeypatch.setattr(gathering, "_BACKLOG", 0)
    monkeypatch.setattr(gathering, "_QUICK_SECONDS", 1.0)
    monkeypatch.setattr(gathering, "_LINKED_SECONDS", 1.0)


@task
def step(x: int) -> int:
    return x + 1


@task
def add(x: int, y: int) -> int:
    return x + y


@task
def fail_at(x: int, at: int) -> int:
    if x == at:
        raise ValueError(f"at {at}")
    return x + 1


@task(retries=1)
def stumble_at(x: int, at: int) -> int:
    if x == at and at not in failed:
        failed.add(at)
        raise ValueError("once")
    return x + 1


@task
def repeat(count: int) -> bytes:
    return bytes(count)


@task
def length(value: bytes) -> int:
    return len(value)


def be_known(*calls: Any) -> None:
    """Have tasks known as quick."""
    for submit in calls:
        for _ in range(8):
            submit().result()


def chain(submit: Any, links: int) -> list[Any]:
    futures = [submit(0)]
    for _ in range(links - 1):
        futures.append(submit(futures[-1]))
    return futures


def test_a_chain_of_quick_tasks_goes_in_chunks_and_each_keeps_its_run() -> None:
    @flow(task_runner=Watched())
    def run() -> list[int]:
        be_known(lambda: step.submit(0))
        return [future.result() for future in chain(step.submit, 200)]

    assert run() == list(range(1, 201))
    assert max(started[0].chunks) > 10
    rows = history.open_store().task_runs()
    assert {(row.state_name, row.run_count) for row in rows} == {("Completed", 1)}
    by_index = sorted((row for row in rows), key=lambda row: row.index)[8:]
    assert all(len(row.inputs) == 1 for row in by_index[1:])
    starts = [row.started_us for row in by_index]
    assert starts == sorted(starts)


def test_what_is_behind_one_that_fails_is_not_ready() -> None:
    @flow(task_runner=Watched())
    def run() -> None:
        be_known(lambda: fail_at.submit(0, -1))
        chain(lambda x: fail_at.submit(x, 20), 40)

    assert run(return_state=True).is_failed()
    names = [row.state_name for row in sorted(history.open_store().task_runs(), key=lambda row: row.index)][8:]
    assert names == ["Completed"] * 20 + ["Failed"] + ["NotReady"] * 19


def test_one_that_is_tried_again_holds_up_what_is_behind_it() -> None:
    @flow(task_runner=Watched())
    def run() -> int:
        be_known(lambda: stumble_at.submit(0, -1))
        last: int = chain(lambda x: stumble_at.submit(x, 20), 40)[-1].result()
        return last

    assert run() == 40
    store = history.open_store()
    assert store.task_run("stumble_at-28").run_count == 2
    assert {row.run_count for row in store.task_runs() if row.name != "stumble_at-28"} == {1}


def test_a_value_that_is_too_large_to_be_sent_is_had_from_where_it_lies() -> None:
    @flow(task_runner=Watched())
    def run() -> list[int]:
        be_known(lambda: step.submit(0), lambda: repeat.submit(0), lambda: length.submit(b""))
        futures = [step.submit(length.submit(repeat.submit(step.submit(size)))) for size in (1, LARGE, 2)]
        return [future.result() for future in futures]

    assert run() == [3, LARGE + 2, 4]
    assert started[0].fetched == 0


def test_what_is_told_by_states_is_the_value_in_them() -> None:
    @task
    def told(x: int) -> Any:
        return Completed(data=x + 1)

    @flow(task_runner=Watched())
    def run() -> list[int]:
        be_known(lambda: told.submit(0))
        return [future.result() for future in chain(told.submit, 5)]

    assert run() == [1, 2, 3, 4, 5]


def test_each_has_a_copy_of_its_own() -> None:
    @task
    def make(x: int) -> list[int]:
        return [x]

    @task
    def push(numbers: list[int], x: int) -> list[int]:
        numbers.append(x)
        return numbers

    @flow(task_runner=Watched())
    def run() -> list[list[int]]:
        be_known(lambda: make.submit(0), lambda: push.submit([], 0))
        made = make.submit(1)
        pushed = [push.submit(made, 2), push.submit(made, 3)]
        return [future.result() for future in [made, *pushed, push.submit(pushed[0], 4)]]

    assert run() == [[1], [1, 2], [1, 3], [1, 2, 4]]


def test_what_waits_for_one_that_waits_itself_joins_when_that_goes() -> None:
    @task
    def slow(x: int) -> int:
        time.sleep(0.2)
        return x

    @flow(task_runner=Watched())
    def run() -> int:
        be_known(lambda: step.submit(0))
        first = slow.submit(0)
        links = [step.submit(first)]
        for _ in range(99):
            links.append(step.submit(links[-1]))
        last: int = links[-1].result()
        return last

    assert run() == 100
    assert max(started[0].chunks) > 10


def test_a_chain_whose_flow_fails_ends() -> None:
    @flow(task_runner=Watched())
    def run() -> None:
        be_known(lambda: step.submit(0))
        chain(step.submit, 100)
        raise KeyError("enough")

    assert run(return_state=True).is_failed()
    names = {row.state_name for row in history.open_store().task_runs()}
    assert names <= {"Completed", "Cancelled", "NotReady"}


OPERATIONS = st.sampled_from(["step", "add", "fail", "stumble", "grow", "state"])
NODES = st.lists(st.tuples(OPERATIONS, st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40)


@task
def told_as_state(x: int) -> Any:
    return Completed(data=x)


@task
def grown(x: int) -> bytes:
    return bytes(LARGE if x % 3 == 0 else x % 50)


def submitted(nodes: list[tuple[str, int, int]]) -> list[Any]:
    """Submit one run for each node, whose inputs are among the last six before it."""
    futures: list[Any] = []
    for operation, left, right in nodes:
        x = futures[-1 - left] if left < len(futures) else left
        y = futures[-1 - right] if right < len(futures) else right
        match operation:
            case "step":
                futures.append(step.submit(x))
            case "add":
                futures.append(add.submit(x, y))
            case "fail":
                futures.append(fail_at.submit(x, right))
            case "stumble":
                futures.append(stumble_at.submit(x, right))
            case "grow":
                futures.append(length.submit(grown.submit(x)))
            case "state":
                futures.append(told_as_state.submit(x))
    return futures


def ends(nodes: list[tuple[str, int, int]], runner: Any) -> list[tuple[str, Any]]:
    failed.clear()

    @flow(task_runner=runner)
    def run() -> list[tuple[str, Any]]:
        be_known(
            lambda: step.submit(0),
            lambda: add.submit(0, 0),
            lambda: fail_at.submit(1, 0),
            lambda: stumble_at.submit(1, 0),
            lambda: length.submit(b""),
            lambda: grown.submit(1),
            lambda: told_as_state.submit(0),
        )
        states = [future.wait() for future in submitted(nodes)]
        return [
            (state.name, state.result(raise_on_failure=False) if state.is_completed() else None) for state in states
        ]

    told: list[tuple[str, Any]] = run()
    return told


@pytest.mark.timeout(120)
@settings(max_examples=25, deadline=None)
@given(NODES)
def test_any_graph_ends_as_it_does_one_after_the_other(nodes: list[tuple[str, int, int]]) -> None:
    # One that stumbles does so once a number, whichever comes first.
    nodes = [
        (kind, left, 100 + place if kind == "stumble" else right) for place, (kind, left, right) in enumerate(nodes)
    ]
    assert ends(nodes, Watched()) == ends(nodes, "sequential")
