"""Futures in arguments, `wait_for`, failures that pass on, and `map`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect_core import PrefectFuture, allow_failure, as_completed, flow, quote, task, unmapped, wait
from prefect_core.states import State
from prefect_core.testing.contract.journal import Journal, MakeRunner
from prefect_core.testing.surroundings import Harness


@dataclass
class Box:
    """A dataclass with something inside."""

    content: Any
    label: str = "box"


@task
def add(left: int, right: int = 1) -> int:
    """Add two numbers."""
    return left + right


@task
def refuse(reason: str) -> None:
    """Fail."""
    raise ValueError(reason)


class Inputs:
    """Dependencies between tasks."""

    def test_futures_at_any_depth_become_values(self, make_runner: MakeRunner) -> None:
        @task
        def look(boxed: Box, *rest: Any, **named: Any) -> Any:
            return boxed.content, boxed.label, rest, named

        @flow(task_runner=make_runner())
        def run() -> Any:
            one, two = add.submit(0), add.submit(1)
            return look.submit(
                Box({"list": [one, (two,)]}), one, {"deep": [{"deeper": two}]}, named=[one], kept="kept"
            ).result()

        assert run() == ({"list": [1, (2,)]}, "box", (1, {"deep": [{"deeper": 2}]}), {"named": [1], "kept": "kept"})

    def test_a_chain_and_a_fan_give_their_sum(self, make_runner: MakeRunner) -> None:
        @task
        def total(numbers: list[int]) -> int:
            return sum(numbers)

        @flow(task_runner=make_runner())
        def run() -> tuple[int, int]:
            link = add.submit(0)
            for _ in range(20):
                link = add.submit(link)
            return link.result(), total.submit([add.submit(number) for number in range(20)]).result()

        assert run() == (21, 210)

    def test_a_task_starts_after_what_it_waits_for(self, make_runner: MakeRunner, journal: Journal) -> None:
        @task
        def write(line: str) -> None:
            journal.note(line)

        @flow(task_runner=make_runner())
        def run() -> None:
            first = [write.submit("first") for _ in range(3)]
            second = write.submit("second", wait_for=[first])
            write.submit("third", wait_for=[{"any": second}])

        run()
        assert journal.lines() == ["first", "first", "first", "second", "third"]

    def test_a_failure_leaves_all_behind_it_not_ready(
        self, make_runner: MakeRunner, journal: Journal, world: Harness
    ) -> None:
        @task
        def follow(value: Any) -> None:
            journal.note("followed")

        @flow(task_runner=make_runner())
        def run() -> list[State | None]:
            failed = refuse.submit("no")
            near = follow.submit([failed])
            far = follow.submit(near)
            aside = follow.submit(1, wait_for=[failed])
            return [future.wait() for future in (failed, near, far, aside)]

        states = run(return_state=True).data
        assert [state.name for state in states] == ["Failed", "NotReady", "NotReady", "NotReady"]
        assert (
            states[2].message
            == f"Upstream task run '{states[1].state_details.task_run_id}' did not reach a 'COMPLETED' state."
        )
        assert journal.lines() == []
        assert world.state_names("follow-1") == ["Pending", "NotReady"]

    def test_an_allowed_failure_arrives_as_its_exception(self, make_runner: MakeRunner) -> None:
        @task
        def look(value: Any) -> str:
            return repr(value)

        @flow(task_runner=make_runner())
        def run() -> list[str]:
            failed = refuse.submit("no")
            return [look.submit(allow_failure(failed)).result(), look.submit([allow_failure(failed)]).result()]

        assert run() == ["ValueError('no')", "[ValueError('no')]"]

    def test_quoted_arguments_arrive_untouched(self, make_runner: MakeRunner) -> None:
        @task
        def look(value: Any) -> Any:
            return value

        @flow(task_runner=make_runner())
        def run() -> Any:
            return look.submit(quote([1, (2, {"three": 3})])).result()

        assert run() == [1, (2, {"three": 3})]

    def test_map_gives_each_element_its_run_in_order(self, make_runner: MakeRunner) -> None:
        @flow(task_runner=make_runner())
        def run() -> tuple[Any, ...]:
            numbers = add.map(range(4))
            return (
                numbers.result(),
                add.map(numbers, right=unmapped(10)).result(),
                add.map([1, 2], [3, 4]).result(),
                add.map([]).result(),
                [future.name for future in numbers],
            )

        assert run() == ([1, 2, 3, 4], [11, 12, 13, 14], [4, 6], [], ["add-0", "add-1", "add-2", "add-3"])

    def test_futures_are_waited_for_together_and_one_by_one(self, make_runner: MakeRunner) -> None:
        heard: list[int] = []

        @flow(task_runner=make_runner())
        def run() -> tuple[int, set[int]]:
            futures: list[PrefectFuture[Any]] = [add.submit(number) for number in range(5)]
            for future in futures:
                future.add_done_callback(lambda future: heard.append(future.result()))
            done, _ = wait(futures)
            return len(done), {future.result() for future in as_completed(futures)}

        assert run() == (5, {1, 2, 3, 4, 5})
        assert sorted(heard) == [1, 2, 3, 4, 5]

    def test_the_graph_of_inputs_is_recorded(self, make_runner: MakeRunner, world: Harness) -> None:
        @flow(task_runner=make_runner())
        def run() -> int:
            one = add.submit(1)
            return add.submit(left=one, right=add.submit(2), wait_for=[one]).result()

        assert run() == 5
        rows = {row.name: row for row in world.store.task_runs()}
        names = {row.uid: row.name for row in rows.values()}
        edges = {(edge.parameter, names[edge.uid]) for edge in rows["add-2"].inputs}
        assert edges == {("left", "add-0"), ("right", "add-1"), ("wait_for", "add-0")}
