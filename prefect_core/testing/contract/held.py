"""Large values: where they lie is the runner's affair, and what comes of them is the same."""

from __future__ import annotations

from typing import Any

from prefect_core import allow_failure, flow, task
from prefect_core.references import Reference
from prefect_core.states import State
from prefect_core.testing.contract.journal import Journal, MakeRunner
from prefect_core.testing.surroundings import Harness

_LARGE = 300_000


@task
def large(number: int) -> bytes:
    return bytes([number]) * _LARGE


@task
def joined(first: bytes, rest: dict[str, list[bytes]]) -> bytes:
    return first + b"".join(rest["parts"])


@task
def size(data: bytes) -> int:
    return len(data)


class Held:
    """Values between tasks, to the flow, and out of it."""

    def test_large_values_go_from_task_to_task_at_any_depth(self, make_runner: MakeRunner) -> None:
        @flow(task_runner=make_runner())
        def run() -> int:
            parts = [large.submit(number) for number in range(3)]
            return size.submit(joined.submit(parts[0], {"parts": parts[1:]})).result()

        assert run() == 3 * _LARGE

    def test_a_runner_that_holds_values_leaves_them_where_they_are_until_somebody_asks(
        self, make_runner: MakeRunner
    ) -> None:
        @flow(task_runner=make_runner())
        def run() -> tuple[type, bytes]:
            future = large.submit(1)
            assert size.submit(future).result() == _LARGE
            return type(future.state.data), future.result()

        kind, value = run()
        assert issubclass(kind, Reference if make_runner().holds_values else bytes)
        assert value == b"\x01" * _LARGE

    def test_large_values_that_a_flow_returns_outlive_its_runner(self, make_runner: MakeRunner) -> None:
        @flow(task_runner=make_runner())
        def run() -> list[Any]:
            return [large.submit(1), large.submit(2)]

        assert [len(state.result()) for state in run(return_state=True).data] == [_LARGE, _LARGE]

    def test_large_values_reach_tasks_on_other_runners_and_are_stored(self, make_runner: MakeRunner) -> None:
        here = size.with_options(task_runner="concurrent")
        kept = large.with_options(persist_result=True)

        @flow(task_runner=make_runner())
        def run() -> tuple[int, int]:
            return here.submit(large.submit(1)).result(), size.submit(kept.submit(2)).result()

        assert run() == (_LARGE, _LARGE)

    def test_dependents_of_a_failure_end_not_ready_and_those_of_a_retried_task_run_once(
        self, make_runner: MakeRunner, world: Harness, journal: Journal
    ) -> None:
        @task(retries=1)
        def second_time(fails: bool) -> bytes:
            journal.note("try")
            if fails or journal.lines().count("try") == 1:
                raise ValueError("once")
            return b"x" * _LARGE

        @task
        def behind(data: Any) -> int:
            journal.note("behind")
            return len(data)

        @flow(task_runner=make_runner())
        def run() -> tuple[int, State | None, State | None]:
            well = behind.submit(second_time.submit(False)).result()
            failed = second_time.submit(True)
            not_ready = behind.submit(behind.submit(failed))
            allowed = behind.submit(allow_failure(failed.wait() and [failed.result(raise_on_failure=False)]))
            return well, not_ready.wait(), allowed.wait()

        well, not_ready, allowed = run()
        assert well == _LARGE
        assert not_ready is not None
        assert not_ready.name == "NotReady"
        assert allowed is not None
        assert allowed.is_completed()
        assert journal.lines().count("behind") == 2
        assert world.state_names("behind-0") == ["Pending", "Running", "Completed"]
        assert world.state_names("behind-2") == ["Pending", "NotReady"]
