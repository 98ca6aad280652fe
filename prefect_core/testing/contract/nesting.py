"""Tasks in tasks and flows in flows, at any depth, with one worker too."""

from __future__ import annotations

from typing import Any

from prefect_core import as_completed, flow, task
from prefect_core.context import FlowRunContext
from prefect_core.states import State
from prefect_core.testing.contract.journal import Journal, MakeRunner
from prefect_core.testing.surroundings import Harness


@task
def descend(depth: int) -> int:
    """Count the levels below."""
    return 0 if depth == 0 else 1 + descend.submit(depth - 1).result()


@task
def leaf(number: int) -> int:
    """Give a number back."""
    return number


class Nesting:
    """Runs inside runs."""

    def test_a_task_waits_for_tasks_it_submits_five_deep(self, make_runner: MakeRunner, world: Harness) -> None:
        @flow(task_runner=make_runner())
        def run() -> int:
            return descend.submit(5).result()

        assert run() == 5
        rows = {row.key: row for row in world.store.task_runs()}
        assert len(rows) == 6
        assert {row.state_name for row in rows.values()} == {"Completed"}
        parents = sorted(row.parent_task_run for row in rows.values() if row.parent_task_run is not None)
        assert len(set(parents)) == 5
        assert set(parents) < set(rows)

    def test_a_task_maps_and_collects_as_they_come(self, make_runner: MakeRunner) -> None:
        @task
        def spread(width: int) -> int:
            return sum(future.result() for future in as_completed(leaf.map(range(width))))

        @flow(task_runner=make_runner())
        def run() -> list[int]:
            return spread.map([3, 4, 5]).result()

        assert run() == [3, 6, 10]

    def test_a_task_calls_a_task_directly(self, make_runner: MakeRunner, world: Harness) -> None:
        @task
        def around(number: int) -> int:
            return leaf(number) + 1

        @flow(task_runner=make_runner())
        def run() -> int:
            return around.submit(1).result()

        assert run() == 2
        assert world.state_names("leaf-0") == ["Pending", "Running", "Completed"]

    def test_a_failure_in_a_nested_task_is_the_outer_ones_to_handle(self, make_runner: MakeRunner) -> None:
        @task
        def refuse() -> None:
            raise ValueError("inner")

        @task
        def around(catches: bool) -> str:
            try:
                refuse.submit().result()
            except ValueError as error:
                if catches:
                    return f"caught {error}"
                raise
            return "nothing happened"

        @flow(task_runner=make_runner())
        def run() -> tuple[str, State | None]:
            return around.submit(True).result(), around.submit(False).wait()

        caught, state = run()
        assert caught == "caught inner"
        assert str(state) == "Failed('Task run encountered an exception ValueError: inner')"

    def test_a_subflow_has_a_runner_of_its_own(self, make_runner: MakeRunner, world: Harness) -> None:
        runners: list[Any] = []

        def note_runner() -> None:
            context = FlowRunContext.get()
            assert context is not None
            runners.append(context.task_runner)

        @flow(task_runner=make_runner())
        def inner(number: int) -> int:
            note_runner()
            return leaf.submit(number).result() + 1

        @flow(task_runner=make_runner())
        def outer() -> tuple[int, int]:
            note_runner()
            return inner(leaf.submit(1)), inner.submit(leaf.submit(2)).result()

        assert outer() == (2, 3)
        assert len({id(runner) for runner in runners}) == 3
        assert all(runner == make_runner() for runner in runners)
        assert [row.state_name for row in world.store.flow_runs()] == ["Completed"] * 3

    def test_a_subflow_runs_inside_a_task(self, make_runner: MakeRunner, journal: Journal) -> None:
        @flow(task_runner="sequential")
        def inner(number: int) -> int:
            journal.note("inner")
            return leaf.submit(number).result() + 1

        @task
        def around(number: int) -> int:
            return inner(number) + 1

        @flow(task_runner=make_runner())
        def outer() -> int:
            return around.submit(1).result()

        assert outer() == 3
        assert journal.lines() == ["inner"]
