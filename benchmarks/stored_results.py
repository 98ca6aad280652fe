"""What does it cost to store a small result, durably, and to take one over when a flow run is executed again?"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, compare, throwaway_home
from prefect_core import flow, reexecution, task

os.environ.setdefault("PREFECT_CORE_LOGGING_LEVEL", "CRITICAL")
STORED, TAKEN, LIMIT = 300, 20_000, 4


@task(persist_result=True)
def small(number: int) -> int:
    return number


def plain(number: int) -> int:
    return number


@flow
def store_one_by_one() -> int:
    return sum(small(number) for number in range(STORED))


@flow
def store_many() -> None:
    """Fail in the end, so that the run can be executed again and again."""
    futures = [small.submit(number) for number in range(TAKEN)]
    assert sum(future.result() for future in futures) == sum(range(TAKEN))
    raise EndOfAttempt


class EndOfAttempt(Exception):
    """Ends each attempt."""


def measure() -> list[Figure]:
    with throwaway_home() as home:
        return [_durable(home), _taken_over()]


def _durable(home: Path) -> Figure:
    what = f"{STORED} small results stored, durable when the call returns"
    return compare(what, store_one_by_one, _bare_commits(home / "bare.db"), STORED, 2.5)


def _bare_commits(path: Path) -> Callable[[], object]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE result (key INTEGER PRIMARY KEY, value BLOB)")

    def commit_each() -> None:
        for _ in range(STORED):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO result (value) VALUES (?)", (b"x" * 100,))
            connection.execute("COMMIT")

    return commit_each


def _taken_over() -> Figure:
    run_id = str(store_many(return_state=True).state_details.flow_run_id)
    return taken_over(f"{TAKEN:,} stored results taken over on re-execution", run_id, TAKEN)


def taken_over(what: str, run_id: str, count: int, **options: Any) -> Figure:
    """Compare a further attempt of a flow run, of which all is stored, with a pool that calls a plain function as often."""

    def execute_again() -> None:
        again = reexecution.find(run_id)
        with reexecution.reopened(again):
            again.flow(return_state=True)

    def pool() -> None:
        with ThreadPoolExecutor() as executor:
            futures = [executor.submit(plain, number) for number in range(count)]
            assert sum(future.result() for future in futures) == sum(range(count))

    return compare(what, execute_again, pool, count, LIMIT, **options)
