"""Large values that are stored: whoever writes them, they are there, once, and are not computed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect_core import flow, task
from prefect_core.errors import SerializationError
from prefect_core.references import Reference
from prefect_core.results import load_result
from prefect_core.states import State
from prefect_core.testing.contract.journal import Journal, MakeRunner

_LARGE = 300_000


@task(persist_result=True)
def stored(number: int) -> bytes:
    return bytes([number]) * _LARGE


@task(persist_result=True)
def stored_sum(first: bytes, rest: dict[str, list[bytes]]) -> bytes:
    return first + b"".join(rest["parts"])


@task(persist_result=True)
def noted(number: int, journal: str) -> bytes:
    Journal(Path(journal)).note(f"body {number}")
    return bytes([number]) * _LARGE


@task(persist_result=True)
def cut_short(data: bytes, journal: str) -> bytes:
    Journal(Path(journal)).note("cut")
    return data[:-1]


class Kept:
    """Stored values between tasks, and after the run."""

    def test_a_large_stored_value_outlives_the_runner(self, make_runner: MakeRunner) -> None:
        @flow(task_runner=make_runner())
        def run() -> list[Any]:
            future = stored.submit(1)
            future.wait()
            return [future, type(future.state.data)]

        state, kind = run(return_state=True).data
        assert issubclass(kind, Reference if make_runner().holds_values else bytes)
        assert state.result() == b"\x01" * _LARGE
        assert load_result(state.state_details.task_run_id) == b"\x01" * _LARGE

    def test_large_stored_values_go_from_task_to_task_at_any_depth(self, make_runner: MakeRunner) -> None:
        @flow(task_runner=make_runner())
        def run() -> bytes:
            parts = [stored.submit(number) for number in range(3)]
            return stored_sum.submit(stored_sum.submit(parts[0], {"parts": parts[1:]}), {"parts": []}).result()

        assert run() == b"".join(bytes([number]) * _LARGE for number in range(3))

    def test_a_flow_that_is_tried_again_takes_them_over(self, make_runner: MakeRunner, journal: Journal) -> None:
        @flow(task_runner=make_runner(), retries=1)
        def run() -> int:
            cut = [cut_short.submit(noted.submit(number, str(journal.path)), str(journal.path)) for number in range(2)]
            total = sum(len(one.result()) for one in cut)
            journal.note("attempt")
            if journal.lines().count("attempt") == 1:
                raise ValueError("once")
            return total

        assert run() == 2 * (_LARGE - 1)
        assert sorted(journal.lines()) == ["attempt", "attempt", "body 0", "body 1", "cut", "cut"]

    def test_a_value_that_is_not_kept_in_memory_is_loaded_by_who_needs_it(self, make_runner: MakeRunner) -> None:
        @flow(task_runner=make_runner())
        def run() -> tuple[int, int]:
            future = stored.with_options(cache_result_in_memory=False).submit(7)
            future.wait()
            return len(stored_sum.submit(future, {"parts": [future]}).result()), len(future.result())

        assert run() == (2 * _LARGE, _LARGE)

    def test_a_large_value_that_can_not_be_stored_fails_its_task_and_says_why(self, make_runner: MakeRunner) -> None:
        @task(persist_result=True, result_serializer="json")
        def odd() -> Any:
            return {"data": ["x" * _LARGE], "function": lambda: 0}

        @flow(task_runner=make_runner())
        def run() -> State:
            return odd.submit(return_state=True)

        state = run(return_state=True).data
        assert state.is_failed()
        assert isinstance(state.data, SerializationError)
        assert "The result of 'odd-0' can't be stored" in state.message
