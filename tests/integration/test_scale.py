"""Very many tasks at once, very deep nesting, very long chains: nothing breaks, and what they cost stays in bounds.

The sizes here are small; `make faults` runs the full ones, in processes of their own whose time and memory are looked at.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest

from prefect_core import flow, task
from prefect_core.errors import NestingTooDeep
from prefect_core.history.store import RunFilter
from prefect_core.settings import temporary_settings
from prefect_core.testing import harness
from tests.integration import crowds
from tests.integration.programs import ROOT

FULL = pytest.mark.faults


def measured(home: Path, name: str, count: int) -> dict[str, Any]:
    """Run one of the programs of `crowds` and return what it measured."""
    command = [sys.executable, "-m", "tests.integration.crowds", name, str(count)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    figures: dict[str, Any] = json.loads(ended.stdout)
    print(f"\n{name} {count}: {figures}")
    return figures


def test_thousands_of_futures_are_open_at_once() -> None:
    with harness() as world:
        assert crowds.wait_for_all(3000) == 3000
        rows = world.store.task_runs(RunFilter(name="one"))
        assert Counter(row.state_name for row in rows) == {"Completed": 3000}


@FULL
@pytest.mark.timeout(300)
def test_a_hundred_thousand_futures_are_open_at_once(home: Path) -> None:
    figures = measured(home, "wait_for_all", 100_000)
    assert figures["result"] == 100_000
    assert figures["seconds"] < 60
    assert figures["megabytes"] < 500


def test_thousands_of_waiting_tasks_are_cancelled() -> None:
    with harness() as world:
        crowds.cancel_all(3000)
        assert world.store.counts_by_state(world.store.flow_runs()[0].key) == {"Completed": 1, "Cancelled": 3000}


@FULL
@pytest.mark.timeout(300)
def test_a_hundred_thousand_waiting_tasks_are_cancelled_in_five_seconds(home: Path) -> None:
    assert measured(home, "cancel_all", 100_000)["result"] < 5


def test_thousands_of_async_bodies_run_at_once() -> None:
    with harness():
        assert anyio.run(crowds.meet, 1000) == 1000
        assert crowds.meet_from_def(1000) == 1000


@FULL
@pytest.mark.timeout(300)
def test_ten_thousand_async_bodies_run_at_once(home: Path) -> None:
    assert measured(home, "meet_from_def", 10_000)["result"] == 10_000


@FULL
@pytest.mark.timeout(300)
def test_a_finished_task_whose_future_is_held_keeps_little_memory(home: Path) -> None:
    assert measured(home, "kept_bytes", 100_000)["result"] < 1536


def test_a_hundred_flows_nest() -> None:
    @flow
    def nest(depth: int) -> int:
        return 0 if depth == 0 else 1 + nest(depth - 1)

    with harness() as world:
        assert nest(100) == 100
        assert len(world.store.flow_runs()) == 101


def test_a_flow_that_calls_itself_without_an_end_is_told_so() -> None:
    @flow
    def run_away(depth: int) -> None:
        run_away(depth + 1)

    @task
    def run_away_too(depth: int) -> None:
        run_away_too.submit(depth + 1).result()

    @flow
    def main() -> None:
        run_away_too.submit(0).result()

    with harness(max_nesting=60):
        for culprit in (lambda: run_away(0), main):
            with pytest.raises(NestingTooDeep, match="max_nesting is 60"):
                culprit()


@pytest.mark.parametrize("submitted", [False, True])
def test_a_runaway_ends_before_python_does_with_the_default_limit(submitted: bool) -> None:
    @task
    def deeper(depth: int) -> int:
        return deeper.submit(depth + 1).result() if submitted else deeper(depth + 1)

    @flow
    def main() -> None:
        deeper(0)

    with harness(), pytest.raises(NestingTooDeep):
        main()


def chain_of_failures(links: int) -> Counter[str]:
    @task
    def fail() -> None:
        raise ValueError

    @task
    def follow(_: Any) -> None:
        """Never run."""

    @flow
    def main() -> Counter[str]:
        link: Any = fail.submit()
        for _ in range(links):
            link = follow.submit(link)
        link.wait()
        return Counter([link.state.name])

    with harness(logging_level="CRITICAL") as world:
        main(return_state=True)
        return Counter(row.state_name for row in world.store.task_runs())


def test_a_long_chain_of_failures_needs_no_deep_stack() -> None:
    assert chain_of_failures(2000) == {"Failed": 1, "NotReady": 2000}


@FULL
@pytest.mark.timeout(120)
def test_a_chain_of_twenty_thousand_failures_needs_no_deep_stack() -> None:
    assert chain_of_failures(20_000) == {"Failed": 1, "NotReady": 20_000}


def test_a_queue_that_is_full_holds_the_program_back_and_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with harness(), temporary_settings(recorder_queue=50):
        assert crowds.wait_for_all(500) == 500
