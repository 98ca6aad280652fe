"""The program whose workers are killed: a little of everything that a cluster carries, with bodies that write down that they began."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from prefect_core import flow, task
from prefect_core.context import get_run_context
from prefect_core.task_runners import TaskRunner
from prefect_core.testing.contract.journal import Journal

SINGLES, CHAINS, LINKS, LEAVES, MADE, KEPT, TINY, KNOWN, ROW = 16, 3, 5, 16, 4, 4, 40, 8, 100
BODIES = SINGLES + CHAINS * LINKS + 2 * LEAVES - 1 + 3 * MADE + KEPT + TINY + KNOWN + ROW
"""So many bodies the program has when nothing is killed."""
ONCE = {"single", "keep"}
"""Tasks whose values are collected or stored as soon as they are there."""
_ELEMENTS = 1 << 16


def note_beginning(journal: Journal, seconds: float = 0.004) -> None:
    """Be a body: write down which attempt of which run this is, and take a moment."""
    run = get_run_context().run
    journal.note(f"began {run.id} {run.attempt} {os.getpid()}")
    time.sleep(seconds)


@task(retries_on_crash=9)
def single(journal: Journal, number: int) -> int:
    note_beginning(journal, 0.02)
    return number * number


@task(retries=9)
def link(journal: Journal, number: int) -> int:
    note_beginning(journal)
    return number + 1


@task(retries_on_crash=9)
def add(journal: Journal, *numbers: int) -> int:
    note_beginning(journal)
    return sum(numbers)


@task(retries=9)
def make(journal: Journal, number: int) -> Any:
    """Make a value that stays where it was made."""
    import numpy as np

    note_beginning(journal)
    return np.full(_ELEMENTS, float(number))


@task(retries=9)
def total(journal: Journal, array: Any) -> float:
    note_beginning(journal, 0.02)
    return float(array.sum())


@task(retries=9, persist_result=True)
def keep(journal: Journal, number: int) -> int:
    note_beginning(journal)
    return number


@task(retries=9)
def tiny(journal: Journal, number: int) -> int:
    note_beginning(journal, 0.002)
    return number


@task(retries=9)
def quick(journal: str, number: int) -> int:
    """Be so quick that a row of them goes in chunks, in which each gets what the one before has made."""
    note_beginning(Journal(Path(journal)), 0)
    return number + 1


class Results(NamedTuple):
    """What the program returns."""

    singles: list[int]
    chains: list[int]
    tree: int
    totals: list[float]
    kept: list[int]
    tiny: list[int]
    row: int


RIGHT = Results(
    [number * number for number in range(SINGLES)],
    [number + LINKS for number in range(CHAINS)],
    LEAVES * (LEAVES - 1) // 2,
    [float(number * _ELEMENTS) for _ in range(2) for number in range(MADE)],
    list(range(KEPT)),
    list(range(TINY)),
    ROW,
)


def program(runner: TaskRunner) -> Any:
    """Return the flow, on a runner."""

    @flow(task_runner=runner)
    def killed(journal: Journal) -> Results:
        known = [quick.submit(str(journal.path), number) for number in range(KNOWN)]
        made = [make.submit(journal, number) for number in range(MADE)]
        kept = [keep.submit(journal, number) for number in range(KEPT)]
        chains: list[Any] = list(range(CHAINS))
        for _ in range(LINKS):
            chains = [link.submit(journal, chain) for chain in chains]
        early = [total.submit(journal, one) for one in made]
        tree: list[Any] = [add.submit(journal, number) for number in range(LEAVES)]
        while len(tree) > 1:
            tree = [add.submit(journal, *pair) for pair in zip(tree[::2], tree[1::2], strict=True)]
        mapped = tiny.map([journal] * TINY, range(TINY), chunk=8)
        singles = [single.submit(journal, number) for number in range(SINGLES)]
        collected = [one.result() for one in [*singles, *known]][:SINGLES]
        row: Any = 0
        for _ in range(ROW):
            row = quick.submit(str(journal.path), row)
        late = [total.submit(journal, one) for one in made]
        return Results(
            collected,
            [chain.result() for chain in chains],
            tree[0].result(),
            [one.result() for one in [*early, *late]],
            [one.result() for one in kept],
            mapped.result(),
            row.result(),
        )

    return killed
