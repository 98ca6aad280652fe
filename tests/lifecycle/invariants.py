"""What must hold of any run, however its lifecycle was disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect_core import history
from prefect_core.runs import Run
from prefect_core.state_kinds import FINAL, RUNNING, SCHEDULED, TRANSITIONS
from prefect_core.states import State
from prefect_core.testing import ListRecorder


@contextmanager
def recorded() -> Iterator[ListRecorder]:
    """Record into a list for the length of the block."""
    recorder = ListRecorder()
    before = history.install(recorder)
    try:
        yield recorder
    finally:
        history.install(before)


def check_over(recorder: ListRecorder, run: Run) -> None:
    """Assert that a run went by the table, said each state once, and stands at its end: a final state or NotReady."""
    states = check_course(recorder, run)
    assert run.state.is_final() or run.state.name == "NotReady", [str(state) for state in states]


def check_course(recorder: ListRecorder, run: Run) -> list[State]:
    """Assert that the recorder heard each state of a run once, in an order that the table of kinds allows."""
    states = recorder.states_of(run)
    assert states[-1] is run.state
    assert len({id(state) for state in states}) == len(states)
    for before, after in zip(states, states[1:], strict=False):
        assert after.type in TRANSITIONS[before.type], f"{before} was followed by {after}"
        assert after.timestamp_us > before.timestamp_us
    assert [state for state in states if state.type in FINAL] == [states[-1]] * run.state.is_final()
    assert run.ended_us == (run.state.timestamp_us if run.state.is_final() else 0)
    begun = [state for state in states if state.type is RUNNING]
    assert run.run_count == len(begun)
    assert run.started_us == (begun[0].timestamp_us if begun else 0)
    # A retry is announced before each attempt but the first; the runner may then fail to begin it.
    assert len(begun) - 1 <= len([state for state in states if state.type is SCHEDULED]) <= run.attempt
    return states
