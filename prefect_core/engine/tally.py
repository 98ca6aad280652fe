"""How the child runs of a flow run ended."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prefect_core.state_kinds import COMPLETED, StateType

if TYPE_CHECKING:
    from prefect_core.runs import TaskRun


class Tally:
    """How many child runs ended how, and the earliest that did not complete. Taking one in needs no lock."""

    __slots__ = ("_failures", "_kinds")

    def __init__(self) -> None:
        self._kinds: list[StateType] = []
        self._failures: list[TaskRun] = []

    def add(self, run: TaskRun) -> None:
        kind = run.state.type
        self._kinds.append(kind)
        if kind is not COMPLETED:
            self._failures.append(run)

    @property
    def counts(self) -> dict[StateType, int]:
        """The number of runs by kind of state."""
        return dict(Counter(self._kinds))

    def has_told(self, error: BaseException) -> bool:
        """Tell whether a subflow run ended with this very exception, and so has shown its traceback."""
        return any(run.child_flow_run is not None and run.state.data is error for run in self._failures)

    @property
    def earliest_failure(self) -> TaskRun | None:
        """The first created of the runs that did not complete."""
        return min(self._failures, key=lambda run: run.uid, default=None)
