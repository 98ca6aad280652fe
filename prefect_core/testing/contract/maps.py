"""Maps: many elements, in windows and in chunks."""

from __future__ import annotations

from collections.abc import Iterator

from prefect_core import flow, task
from prefect_core.testing.contract.journal import Journal, MakeRunner
from prefect_core.testing.surroundings import Harness


class Maps:
    """Maps, in windows and in chunks."""

    def test_a_map_in_chunks_makes_the_same_runs_as_one_without(
        self, make_runner: MakeRunner, world: Harness, journal: Journal
    ) -> None:
        @task(retries=1)
        def unlucky(number: int) -> int:
            journal.note(f"body {number}")
            if number == 5 and journal.lines().count("body 5") == 1:
                raise ValueError(number)
            return number * number

        @flow(task_runner=make_runner())
        def run() -> list[int]:
            return unlucky.map(range(25), chunk=10).result()

        assert run() == [number * number for number in range(25)]
        assert sorted(journal.lines()) == sorted([f"body {number}" for number in range(25)] + ["body 5"])
        assert world.state_names("unlucky-24") == ["Pending", "Running", "Completed"]
        assert world.state_names("unlucky-5") == ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]

    def test_what_fails_in_a_chunk_fails_alone(self, make_runner: MakeRunner) -> None:
        @task
        def choosy(number: int) -> int:
            if number % 3 == 0:
                raise ValueError(number)
            return number

        @flow(task_runner=make_runner())
        def run() -> list[str]:
            return [state.name for state in choosy.map(range(7), chunk="auto", return_state=True)]

        assert run() == ["Failed", "Completed", "Completed"] * 2 + ["Failed"]

    def test_a_map_over_a_map_with_windows_goes_element_by_element(self, make_runner: MakeRunner) -> None:
        @task
        def more(number: int) -> int:
            return number + 1

        taken: list[int] = []

        def source() -> Iterator[int]:
            for number in range(60):
                taken.append(number)
                yield number

        @flow(task_runner=make_runner())
        def run() -> tuple[int, list[int]]:
            last = more.map(more.map(source(), window=4), window=4)
            first = next(iter(last)).result()
            before = len(taken)
            return before, [first, *(future.result() for future in last)]

        before, values = run()
        assert values == [number + 2 for number in range(60)]
        assert before <= 24
