"""From many states to one, and from a function's return value to the state its run ends in."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from prefect_core.state_kinds import CANCELLED, COMPLETED, CRASHED, FAILED, FINAL, PAUSED, StateType
from prefect_core.states import State, is_collection_of_states


def aggregate(states: Collection[State], data: Any = None) -> State:
    """Make the one state that stands for all of `states`; its data is `data`."""
    counts: dict[StateType, int] = {}
    for state in states:
        counts[state.type] = counts.get(state.type, 0) + 1
    return aggregate_counts(counts, data)


def aggregate_counts(counts: dict[StateType, int], data: Any = None) -> State:
    """Make the state that stands for `counts` states of each kind: Completed if all are, else Cancelled, Paused or Failed."""
    total = sum(counts.values())
    if counts.get(COMPLETED, 0) == total:
        return State(COMPLETED, message="All states completed.", data=data)
    for kind, word in ((CANCELLED, "cancelled"), (PAUSED, "paused")):
        if counts.get(kind):
            return State(kind, message=f"{counts[kind]}/{total} states {word}.", data=data)
    failed = counts.get(FAILED, 0) + counts.get(CRASHED, 0)
    if failed:
        return State(FAILED, message=f"{failed}/{total} states failed.", data=data)
    unfinished = sum(n for kind, n in counts.items() if kind not in FINAL)
    return State(FAILED, message=f"{unfinished}/{total} states are not final.", data=data)


def state_of_value(value: Any) -> State:
    """Return the state that a run ends in whose function returned `value`, futures in it already replaced by their states.

    A state made by hand decides for itself; a run's state, or a non-empty list, tuple or set of states alone, is aggregated; anything
    else completes the run, with the value as its data.
    """
    if isinstance(value, State):
        return aggregate([value], data=value) if value.belongs_to_run else value
    if is_collection_of_states(value):
        return aggregate(value, data=value)
    return State(COMPLETED, data=value)
