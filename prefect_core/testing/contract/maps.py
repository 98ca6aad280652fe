"""Maps: many elements, in windows and in chunks."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

from prefect_core import flow, task
from prefect_core.futures import PrefectFutureList
from prefect_core.references import Reference
from prefect_core.results import load_result
from prefect_core.testing.contract.journal import Journal, MakeRunner
from prefect_core.testing.surroundings import Harness

_LARGE = 300_000
_TURNS = 5
_BREAKS_AT = 1100


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

    def test_large_values_of_a_chunk_are_used_like_any_others(self, make_runner: MakeRunner) -> None:
        @task
        def large(number: int) -> bytes:
            return bytes([number]) * _LARGE if number % 3 else b"small"

        @task
        def joined(parts: list[bytes]) -> bytes:
            return b"".join(parts)

        @task
        def size(data: bytes) -> int:
            return len(data)

        @flow(task_runner=make_runner())
        def run() -> tuple[bytes, list[int], bytes]:
            parts = large.map(range(6), chunk=3)
            parts.wait()
            for number in (1, 2, 4, 5):
                assert isinstance(parts[number].state.data, Reference if make_runner().holds_values else bytes)
            return joined.submit(parts[1:4]).result(), size.map(parts, chunk=2).result(), parts[5].result()

        data, sizes, last = run()
        assert data == b"\x01" * _LARGE + b"\x02" * _LARGE + b"small"
        assert sizes == [5, _LARGE, _LARGE, 5, _LARGE, _LARGE]
        assert last == b"\x05" * _LARGE

    def test_stored_values_of_a_chunk_outlive_the_runner(self, make_runner: MakeRunner) -> None:
        @task(persist_result=True)
        def stored(number: int) -> bytes:
            return bytes([number]) * _LARGE

        @flow(task_runner=make_runner())
        def run() -> list[Any]:
            return list(stored.map(range(4), chunk=4))

        states = run(return_state=True).data
        for number, state in enumerate(states):
            assert state.result() == load_result(state.state_details.task_run_id) == bytes([number]) * _LARGE

    def test_what_has_not_begun_of_a_chunk_that_runs_is_taken_back(
        self, make_runner: MakeRunner, journal: Journal
    ) -> None:
        takes_chunks = make_runner().takes_chunks
        # Whoever submits slowly sends more than one chunk. What waits behind the first body is in the same as that, if there is something.
        for turn in range(_TURNS):
            names, begun = _names_after_an_early_end(make_runner, journal, f"turn {turn}", waits=takes_chunks)
            completed = {number for number, name in enumerate(names) if name == "Completed"}
            assert completed == begun, f"Completed: {completed}, begun: {begun}"
            assert {*names} <= {"Completed", "Cancelled"}
            if "Cancelled" in names or not takes_chunks:
                return
        raise AssertionError("Nothing was taken back.")

    def test_each_link_of_a_long_chain_of_quick_calls_runs_once(self, make_runner: MakeRunner, world: Harness) -> None:
        @task
        def add_one(number: int) -> int:
            if number == _BREAKS_AT:
                raise ValueError("enough")
            return number + 1

        @flow(task_runner=make_runner())
        def run() -> int:
            chains = [[add_one.submit(number)] for number in (0, 1000)]
            for _ in range(149):
                for links in chains:
                    links.append(add_one.submit(links[-1]))
            for links in chains:
                links[-1].wait()
            last: int = chains[0][-1].result()
            return last

        assert run() == 150
        rows = world.store.task_runs()
        assert Counter(row.state_name for row in rows) == {"Completed": 150 + 100, "Failed": 1, "NotReady": 49}
        assert all(row.run_count == (row.state_name != "NotReady") for row in rows)

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


def _names_after_an_early_end(
    make_runner: MakeRunner, journal: Journal, turn: str, *, waits: bool
) -> tuple[list[str], set[int]]:
    """Fail a flow while the first body of its map runs, and waits if it is told to; return the states' names, and which bodies began."""
    futures: list[Any] = []

    @task
    def body(number: int, is_to_wait: bool) -> None:
        journal.note(f"{turn} begun {number}")
        if is_to_wait:
            journal.wait_for(f"{turn} go")

    @flow(task_runner=make_runner())
    def run() -> None:
        futures.extend(body.map(range(40), [waits, *[False] * 39], chunk=40))

        def let_go() -> None:
            # The body that waits ends when nothing else is to come.
            PrefectFutureList(futures[1:]).wait()
            journal.note(f"{turn} go")

        threading.Thread(target=let_go, daemon=True).start()
        journal.wait_for(f"{turn} begun 0")
        raise KeyError("enough")

    assert run(return_state=True).is_failed()
    journal.wait_for(f"{turn} go")
    begun = {int(line.split()[-1]) for line in journal.lines() if line.startswith(f"{turn} begun")}
    return [future.state.name for future in futures], begun
