"""Random graphs of tasks: every run reaches its end, with the value that the graph says, after all that it depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefect_core import PrefectFuture, allow_failure, flow, task
from prefect_core.history.store import HistoryStore, RunFilter
from prefect_core.testing import harness

pytestmark = pytest.mark.slow

RUNNERS = ["sequential", "concurrent", "concurrent:1", "concurrent:3"]
NOT_READY = "not ready"


@dataclass
class Node:
    """One task: what its body does, and from where its inputs come (numbers of earlier nodes, with how they are passed)."""

    kind: str
    inputs: list[tuple[int, str]]


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    nodes: list[Node] = []
    for number in range(draw(st.integers(1, 12))):
        sources = st.tuples(
            st.integers(0, number - 1), st.sampled_from(["plain", "plain", "deep", "allowed", "wait_for"])
        )
        nodes.append(
            Node(
                draw(
                    st.sampled_from(
                        ["value", "value", "value", "async", "fails", "flaky", "nested", "direct", "crashes"]
                    )
                ),
                draw(st.lists(sources, max_size=3)) if number else [],
            )
        )
    return nodes


@task
def one(number: int) -> int:
    return number


def total(values: list[Any]) -> int:
    """Add what came in: numbers, lists of one number, failures, which count 100, and None of a task that was not ready, which counts 0."""
    numbers = [value[0] if isinstance(value, list) else value for value in values]
    return sum(100 if isinstance(number, Exception) else number or 0 for number in numbers)


@task
def value(number: int, *values: Any) -> int:
    return number + total(list(values))


@task(name="async")
async def async_value(number: int, *values: Any) -> int:
    return number + total(list(values))


@task
def fails(number: int, *values: Any) -> int:
    raise ValueError(number)


@task
def crashes(number: int, *values: Any) -> int:
    raise SystemExit(number)


@task(retries=1)
def flaky(number: int, *values: Any) -> int:
    from prefect_core.context import TaskRunContext

    context = TaskRunContext.get()
    assert context is not None
    if context.task_run.run_count == 1:
        raise ValueError(number)
    return number + total(list(values))


@task
def nested(number: int, *values: Any) -> int:
    return one.submit(number).result() + total(list(values))


@task
def direct(number: int, *values: Any) -> int:
    return one(number) + total(list(values))


TASKS: dict[str, Any] = {
    "value": value,
    "async": async_value,
    "fails": fails,
    "flaky": flaky,
    "nested": nested,
    "direct": direct,
    "crashes": crashes,
}


def expected(nodes: list[Node]) -> list[Any]:
    """Work out what each node ends with: a number, "Failed", "Crashed", or NOT_READY."""
    ends: list[Any] = []
    for number, node in enumerate(nodes):
        parts = []
        for source, how in node.inputs:
            end = ends[source]
            if not isinstance(end, int) and not (how == "allowed" and end == "Failed"):
                if how == "allowed" and end == NOT_READY:
                    end = 0
                else:
                    break
            if how != "wait_for":
                parts.append(end if isinstance(end, int) else ValueError())
        else:
            body = {"fails": "Failed", "crashes": "Crashed"}
            ends.append(body.get(node.kind, number + total(parts)))
            continue
        ends.append(NOT_READY)
    return ends


def run_graph(nodes: list[Node], runner: str) -> list[PrefectFuture[Any]]:
    @flow(task_runner=runner, final_state_from="return_value")
    def run() -> None:
        for number, node in enumerate(nodes):
            given = [passed(futures[source], how) for source, how in node.inputs if how != "wait_for"]
            behind = [futures[source] for source, how in node.inputs if how == "wait_for"]
            futures.append(TASKS[node.kind].submit(number, *given, wait_for=behind or None))

    futures: list[PrefectFuture[Any]] = []
    run()
    return futures


def passed(future: PrefectFuture[Any], how: str) -> Any:
    if how == "deep":
        return [future]
    return allow_failure(future) if how == "allowed" else future


def check_graph(nodes: list[Node], runner: str, store: HistoryStore) -> None:
    futures = run_graph(nodes, runner)
    ends = expected(nodes)
    for future, end in zip(futures, ends, strict=True):
        state = future.state
        assert future.done()
        if end == NOT_READY:
            assert state.name == "NotReady"
        else:
            assert state.is_final()
            assert (state.result() if state.is_completed() else state.name) == end
    flow_run = futures[0].task_run.flow_run
    rows = {row.uid: row for row in store.task_runs(RunFilter(flow_run=flow_run.key))}
    assert len(rows) == len(nodes) + sum(
        node.kind in ("nested", "direct") and end != NOT_READY for node, end in zip(nodes, ends, strict=True)
    )
    for row in rows.values():
        for edge in row.inputs:
            source = rows[edge.uid]
            if row.started_us is not None and source.ended_us is not None:
                assert source.ended_us <= row.started_us, f"{row.name} began before {source.name} ended"


@pytest.mark.parametrize(("runner", "count"), [*((runner, 100) for runner in RUNNERS), ("processes:2", 5)])
def test_random_graphs_end_as_they_should(runner: str, count: int) -> None:
    play_graphs(runner, count)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("runner", [*RUNNERS, "processes:2"])
def test_a_thousand_random_graphs_end_as_they_should(runner: str) -> None:
    print(f"\ncampaign: {play_graphs(runner, 1000)} graphs on {runner}")


def play_graphs(runner: str, count: int) -> int:
    played = 0

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(graphs())
    def play(nodes: list[Node]) -> None:
        nonlocal played
        played += 1
        with harness(logging_level="CRITICAL") as world:
            check_graph(nodes, runner, world.store)

    play()
    return played
