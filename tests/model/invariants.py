"""What must hold of a history and of the bodies that began, whatever was done to the runs. `docs/when-things-die.md` has them in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from prefect_core.history.rows import FlowRunRow, StateRow, TaskRunRow
from prefect_core.history.store import HistoryStore
from prefect_core.state_kinds import FINAL, PAUSED, PENDING, RUNNING, SCHEDULED, TRANSITIONS, StateType
from tests.model.stage import Body

Run = FlowRunRow | TaskRunRow
BETWEEN_RECORD_AND_BODY_US = 10_000_000
LAST_MOMENTS_US = 2_000_000
NOTHING_LOST: Mapping[int, int] = {}
"""How long after its Running is recorded a body may say that it has begun, on a busy machine."""


def kind(state: StateRow) -> StateType:
    return StateType(state.type)


def by_opening(states: Sequence[StateRow]) -> list[list[StateRow]]:
    """Cut the states of a run after each final one: what follows is what a retry or resume opened."""
    openings: list[list[StateRow]] = [[]]
    for state in states:
        if openings[-1] and kind(openings[-1][-1]) in FINAL:
            openings.append([])
        openings[-1].append(state)
    return openings


class Witness:
    """Remembers what the history said, and checks whatever it says next against that."""

    def __init__(self) -> None:
        self._said: dict[int, list[StateRow]] = {}

    def look(self, store: HistoryStore, root: int) -> None:
        """Check all runs of the history.

        What is read later may know of more, and never of less: runs go on meanwhile.
        """
        assert store.check() == []
        runs = runs_of(store)
        check_pauses(store, root)
        by_run = {run.key: store.states(run.key) for run in runs}
        reopenings = len(store.reopenings(root))
        for run in runs:
            states = by_run[run.key]
            said = self._said.get(run.key, [])
            assert states[: len(said)] == said, f"{run.name}: {said} became {states}"
            self._said[run.key] = states
            check_course(run, states, reopenings)
        check_owner(store, root)


def runs_of(store: HistoryStore) -> list[Run]:
    return [*store.flow_runs(), *store.task_runs()]


def check_course(run: Run, states: Sequence[StateRow], reopenings: int) -> None:
    """The states of a run follow the table, and a final one is followed only by what a retry of the root flow run opened."""
    names = [state.name for state in states]
    openings = by_opening(states)
    for opening in openings:
        for before, after in zip(opening, opening[1:], strict=False):
            assert kind(after) in TRANSITIONS[kind(before)], f"{run.name}: {names}"
            assert after.timestamp_us > before.timestamp_us
    for last, first in zip(openings, openings[1:], strict=False):
        assert kind(first[0]) in {PENDING, RUNNING, SCHEDULED}, f"{run.name}: {names}"
        begun = {state.attempt for state in first if kind(state) is RUNNING}
        assert not begun & {state.attempt for state in last}, f"{run.name}: an attempt goes on after its end, {names}"
    is_root = isinstance(run, FlowRunRow) and run.parent_flow_run is None
    again = len(openings) - 1 + names.count("Resuming")
    assert again <= reopenings or not is_root, f"{run.name}: {names}, let run again {reopenings} times"
    assert (run.state_name, run.state_us) in {(state.name, state.timestamp_us) for state in states}


def check_pauses(store: HistoryStore, root: int) -> None:
    """Each Paused has its pause, at most one is open, and in none of them did an attempt of a run begin."""
    attempts = [(run, attempt) for run in runs_of(store) for attempt in store.attempts(run.key)]
    pauses = store.control().pauses(root)
    states = store.states(root)
    assert {pause.paused_us for pause in pauses} <= {one.timestamp_us for one in states if kind(one) is PAUSED}
    assert not [pause for pause in pauses[:-1] if pause.is_left]
    for paused, after in zip(states, [*states[1:], None], strict=True):
        if kind(paused) is not PAUSED:
            continue
        for run, attempt in attempts:
            is_before_end = after is None or attempt.started_us < after.timestamp_us
            began_in_it = attempt.started_us > paused.timestamp_us and is_before_end
            assert not began_in_it, f"{run.name} began while the flow run was paused"


def check_owner(store: HistoryStore, root: int) -> None:
    """The root flow run belongs to who was let run it last, and so does all in it."""
    reopenings = store.reopenings(root)
    owner = reopenings[-1].process if reopenings else root >> 32
    control = store.control()
    assert {control.owner(run.key) for run in runs_of(store)} == {owner}


def check_bodies(
    journal: Sequence[Body], store: HistoryStore, root: int, lost: Mapping[int, int] = NOTHING_LOST
) -> None:
    """No attempt has two bodies, ever; each body is that of an attempt, in the process that owned the run then.

    `lost` are processes with the moments at which they were lost. What began in the last ones of such a process may not have been recorded,
    and then begins again as that attempt.
    """
    begun = [body for body in journal if body.is_beginning]
    certain = [body for body in begun if lost.get(body.process, body.at_us) - body.at_us > LAST_MOMENTS_US]
    certain += [body for body in begun if body.process not in lost]
    counts = Counter((body.run, body.attempt) for body in certain)
    assert set(counts.values()) <= {1}, f"two bodies of one attempt: {counts}"
    at = [root >> 32, *(one.process for one in store.reopenings(root))]
    order = [at.index(body.process) if body.process in at else -1 for body in begun]
    assert -1 not in order, f"{begun} in processes that never had the run: {at}"


def check_attempts(journal: Sequence[Body], store: HistoryStore, lost: Collection[int]) -> None:
    """Once all has ended: attempts are bodies that began. Of the last moments of a lost process either may be missing."""
    begun = {(body.run, body.attempt) for body in journal if body.is_beginning and body.process not in lost}
    at_us = {(body.run, body.attempt): body.at_us for body in journal if body.is_beginning}
    for run in runs_of(store):
        if isinstance(run, TaskRunRow) and run.child_flow_run is not None:
            continue
        attempts = {attempt.attempt: attempt for attempt in store.attempts(run.key)}
        bodies = {attempt for key, attempt in begun if key == run.key}
        assert bodies <= attempts.keys(), f"{run.name}: bodies {bodies}, attempts {sorted(attempts)}"
        if not lost:
            assert bodies == attempts.keys(), f"{run.name}: bodies {bodies}, attempts {sorted(attempts)}"
        for number in bodies:
            delay_us = at_us[run.key, number] - attempts[number].started_us
            assert 0 <= delay_us < BETWEEN_RECORD_AND_BODY_US
