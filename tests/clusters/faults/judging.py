"""Whether the history of a run tells what happened to it while processes of its cluster were killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from prefect_core import history
from prefect_core.testing.contract.journal import Journal
from tests.clusters.faults.killed_program import BODIES, ONCE, RIGHT

Attempt = tuple[str, int]
"""The run, and the number."""
MADE_AGAIN = "Its value was lost with the worker that held it, and is made again."


@dataclass
class Tally:
    """What a campaign came to."""

    kills: int = 0
    bodies: int = 0
    lost: int = 0
    made_again: int = 0
    cut_short: int = 0
    """Attempts that had begun, and were killed before their body's first line had done its work."""

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.bodies:,} bodies, {self.lost} attempts lost ({self.cut_short} of them at their first line), "
            f"{self.made_again} values made again"
        )


def judge(state: Any, journal: Journal, killed: Collection[str], says: str, tally: Tally) -> None:
    """Judge the one run of the history, whose workers `killed` were ended; what is said of an attempt that was lost contains `says`."""
    assert state.is_completed(), state
    assert state.data == RIGHT
    bodies, recorded = judge_recorded(journal)
    store = history.open_store()
    lost: set[tuple[str, int]] = set()
    for row in store.task_runs():
        states, attempts = store.states(row.key), store.attempts(row.key)
        gone = {one.attempt for one in states if says in (one.message or "")}
        again = {one.attempt for one in states if one.message == MADE_AGAIN}
        _judge_run(row, attempts, gone, again, killed)
        lost |= {(str(row.id), one.attempt) for one in attempts if one.attempt in gone}
        tally.made_again += len(again)
    cut_short = recorded - bodies
    # A worker runs one body at a time, so a kill finds one at most at its beginning.
    assert cut_short <= lost, cut_short - lost
    assert len(cut_short) <= len(killed)
    assert len(bodies) >= BODIES
    tally.bodies += len(bodies)
    tally.lost += len(lost)
    tally.cut_short += len(cut_short)


def judge_recorded(journal: Journal) -> tuple[set[Attempt], set[Attempt]]:
    """Judge that each body is a recorded attempt of its own; returns those of the bodies, and those that are recorded."""
    bodies = Counter((line.split()[1], int(line.split()[2])) for line in journal.lines())
    assert max(bodies.values()) == 1, [key for key, count in bodies.items() if count > 1]
    store = history.open_store()
    recorded = {(str(row.id), one.attempt) for row in store.task_runs() for one in store.attempts(row.key)}
    assert set(bodies) <= recorded, set(bodies) - recorded
    return set(bodies), recorded


def judge_ended(state: Any, journal: Journal, says: str) -> None:
    """Judge a run whose cluster was ended: it is Crashed and says why, and nothing of it is shown as going on."""
    assert state.is_crashed(), state
    assert says in state.message
    judge_recorded(journal)
    rows = history.open_store().task_runs()
    assert [row.state_name for row in rows if row.state_type in {"RUNNING", "SCHEDULED"}] == []
    assert any(row.state_name == "Crashed" for row in rows)


def _judge_run(row: Any, attempts: list[Any], gone: set[int], again: set[int], killed: Collection[str]) -> None:
    """A further attempt is there only for one that was lost, or for a value that was lost and neither stored nor collected."""
    assert row.state_name == "Completed"
    for earlier in attempts[:-1]:
        assert earlier.attempt in gone | again, (row.name, attempts)
    for one in attempts:
        if one.attempt in gone:
            assert one.worker in killed, (row.name, one, killed)
    if row.task_name in ONCE:
        assert not again
        assert [one.state_name for one in attempts].count("Completed") == 1
