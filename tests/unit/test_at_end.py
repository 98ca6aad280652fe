"""What a run tells the history of its end, and what a run that has nothing to tell costs: nothing."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_core import flow, history
from prefect_core.errors import HistoryError, LeaseLost
from prefect_core.testing.list_recorder import ListRecorder
from tests.unit.recorded import Recorded


def hook(*_: Any) -> None:
    """Be called."""


def noted(recorded: Recorded, table: str) -> list[Any]:
    recorded.recorder.flush()
    return list(recorded.store._of_results[table].values())


def test_hooks_and_on_crash_are_recorded_with_the_run(recorded: Recorded) -> None:
    flow(lambda: 1, on_failure=[hook], on_crashed=[hook], on_crash="resume")()
    flow(lambda: 1, on_cancellation=[hook], on_completion=[hook])()
    keys = [row.key for row in recorded.flow_runs()]
    assert noted(recorded, "ending") == [(keys[0], "FAILED CRASHED", "resume"), (keys[1], "CANCELLED", None)]
    assert noted(recorded, "owed") == []


def test_a_flow_without_them_records_nothing(recorded: Recorded) -> None:
    @flow(on_completion=[hook], on_running=[hook])
    def plain() -> None:
        raise ValueError

    plain(return_state=True)
    assert [noted(recorded, table) for table in ("ending", "owed", "called")] == [[], [], []]


def test_hooks_are_owed_with_their_state_and_claimed_before_they_are_called(recorded: Recorded) -> None:
    seen: list[Any] = []

    def look(_flow: Any, run: Any, state: Any) -> None:
        seen.append(run)
        claims = [row[:2] for row in recorded.store._of_results["called"].values()]
        assert claims == [(run.key, state.timestamp_us)] == [row[:2] for row in noted(recorded, "owed")]

    @flow(on_failure=[look])
    def failing() -> None:
        raise ValueError

    failing(return_state=True)
    assert len(seen) == 1
    assert recorded.store.owed() == []


def test_no_commit_is_added_for_a_run_that_ends_well() -> None:
    flushes = []
    for options in ({}, {"on_failure": [hook], "on_crash": "resume"}):
        recorder = ListRecorder()
        before = history.install(recorder)
        try:
            flow(lambda: 1, **options)()
        finally:
            history.install(before)
        flushes.append(recorder.flushes)
    assert flushes[0] == flushes[1]


class Troubled(ListRecorder):
    """A recorder whose flushes fail from a certain one on."""

    def __init__(self, error: HistoryError, first: int) -> None:
        super().__init__()
        self._error = error
        self._first = first

    def flush(self) -> None:
        self.flush_error = self._error if self.flushes + 1 >= self._first else None
        super().flush()


@pytest.mark.parametrize(
    ("error", "first", "are_called"),
    [
        # The flushes are those of the start, of the end, and of the claim.
        (LeaseLost("taken"), 2, False),
        (LeaseLost("taken"), 3, False),
        # Nobody else learns that it failed.
        (HistoryError("full"), 2, True),
        # Whoever recovers does.
        (HistoryError("full"), 3, False),
        (HistoryError("full"), 4, True),
    ],
)
def test_in_trouble_hooks_are_called_where_nobody_else_could(error: HistoryError, first: int, are_called: bool) -> None:
    seen: list[Any] = []
    before = history.install(Troubled(error, first))
    try:
        flow(lambda: 1 / 0, on_failure=[lambda *_: seen.append(1)])(return_state=True)
    finally:
        history.install(before)
    assert seen == [1] * are_called


def test_hooks_that_came_after_the_start_are_called_too(recorded: Recorded) -> None:
    seen: list[Any] = []

    @flow
    def failing() -> None:
        failing.on_failure(lambda *_: seen.append(1))
        raise ValueError

    failing(return_state=True)
    assert seen == [1]
    assert noted(recorded, "owed") == []


def test_a_run_inside_tells_it_too(recorded: Recorded) -> None:
    inner = flow(lambda: 1, name="inner", on_crashed=[hook])
    flow(lambda: inner(), name="outer")()
    assert noted(recorded, "ending") == [(recorded.flow_runs("inner")[0].key, "CRASHED", None)]
