"""What is to be done at the ends of flow runs, in the history in memory."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prefect_core import clock
from prefect_core.history.memory_stored import MemoryStoredResults
from prefect_core.history.owed import KEEPS_CRASHING, MOST_LOSSES, RESUME, OwedRow, left_alone_message
from prefect_core.state_kinds import CANCELLING, CRASHED

if TYPE_CHECKING:
    from prefect_core.history.memory_control import MemoryControl
    from prefect_core.history.rows import FlowRunRow, StateRow


class MemoryEndings(MemoryStoredResults):
    """The part of `MemoryStore` that is an `Endings`."""

    _lock: AbstractContextManager[Any]
    _control: MemoryControl
    _flow_runs: dict[int, FlowRunRow]

    def __init__(self) -> None:
        super().__init__()
        self._losses_of: dict[int, tuple[int, int]] = {}

    def resumable(self) -> list[int]:
        with self._lock:
            wanted = {row[0] for row in self._of_results["ending"].values() if row[2] == RESUME}
            rows = [self._flow_runs[run] for run in sorted(wanted & self._flow_runs.keys())]
        return [row.key for row in rows if row.state_type == CRASHED.value and row.parent_flow_run is None]

    def owed(self, flow_run: int | None = None) -> list[OwedRow]:
        with self._lock:
            runs = self._tree(flow_run) if flow_run is not None else self._flow_runs.keys()
            found = [row for row in self._of_results["owed"].values() if row[0] in runs and self._is_nobodys(row)]
        return [OwedRow(run, at_us) for run, at_us, _ in sorted(found, key=lambda row: (row[1], row[0]))]

    def _is_nobodys(self, row: tuple[int, ...]) -> bool:
        lease = self._control.lease(row[2])
        return row[:2] not in self._of_results["called"] and (lease is None or lease.taken_by is not None)

    def claim_owed(self, owed: OwedRow, called_by: str) -> bool:
        with self._lock:
            row = self._of_results["owed"].get(tuple(owed))
            if row is None or not self._is_nobodys(row):
                return False
            self._of_results["called"][tuple(owed)] = (*owed, called_by, clock.now_us())
            return True

    def _named_loss(self, row: FlowRunRow, state: StateRow) -> StateRow:
        """Count that an open flow run lost its process; returns the state that ends it, another one if that came too often."""
        if row.parent_flow_run is not None or row.state_type == CANCELLING.value:
            return state
        inside = {run.key for run in self._task_run_rows(row.key)}
        kept = len([one for one in self._of_results["kept"].values() if one[0] in inside])
        times, before = self._losses_of.get(row.key, (0, 0))
        times = 1 if kept > before else times + 1
        self._losses_of[row.key] = (times, kept)
        if times < MOST_LOSSES:
            return state
        return replace(state, name=KEEPS_CRASHING, message=left_alone_message(times))

    def _owe_hooks(self, state: StateRow) -> None:
        """Note that nobody calls the hooks of the state in which a flow run has just been ended."""
        ending = self._of_results["ending"].get((state.run,))
        if ending is not None and state.type in ending[1]:
            owed = (state.run, state.timestamp_us)
            self._of_results["owed"][owed] = (*owed, 0)
