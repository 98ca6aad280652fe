"""Stored results in the history in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from prefect_core.errors import NotRunnableAgain
from prefect_core.history.memory_housekeeping import MemoryHousekeeping
from prefect_core.history.memory_limits import MemoryLimits
from prefect_core.history.memory_locks import MemoryLocks
from prefect_core.history.process import ProcessIdentity
from prefect_core.history.rows import TaskRunRow
from prefect_core.history.store import IN_MEMORY
from prefect_core.history.stored import (
    CacheRow,
    EarlierCall,
    IdentityRow,
    KeptRow,
    Reopened,
    ResultRow,
    UnheldRow,
    VerdictRow,
)
from prefect_core.state_kinds import COMPLETED


def _flat(identity: IdentityRow, run: TaskRunRow, attempts: int, kept: KeptRow | None) -> EarlierCall:
    inputs = json.dumps([[one.parameter, one.kind, str(one.id)] for one in run.inputs]) if run.inputs else None
    course = (run.created_us, run.started_us, run.ended_us, run.run_count)
    state = (run.state_type, run.state_name, run.state_message, run.state_us)
    place = (run.key, run.uid.to_bytes(16, "big"), run.task_name, run.task_key, run.index, run.name)
    tags = json.dumps(run.tags) if run.tags else None
    result = kept.result if kept is not None else None
    what = (
        (None,) * 7
        if result is None
        else (result.key, result.serializer, result.storage, result.object, result.value, result.size, result.sha256)
    )
    how_kept = (kept.attempt, json.dumps(kept.inputs)) if kept is not None else (None, None)
    known = (identity.identity, identity.code)
    return EarlierCall(*known, *place, tags, inputs, *course, *state, run.worker, attempts, *how_kept, *what)  # type: ignore[arg-type]  # nulls where nothing was kept


class MemoryStoredResults(MemoryHousekeeping):
    """The part of `MemoryStore` that is a `StoredResults`: rows by table and key."""

    def __init__(self) -> None:
        super().__init__()
        self._locks = MemoryLocks()
        self._limits = MemoryLimits()

    def _task_run_rows(self, root: int | None = None) -> list[TaskRunRow]:
        """Return the task runs of a flow run and all flow runs in it, by key; all that there are without one."""
        raise AssertionError("the store knows its task runs")

    def _tree(self, key: int) -> set[int]:
        """Return a flow run and all flow runs in it."""
        raise AssertionError("the store knows its flow runs")

    def _attempts_of(self, run: int) -> int:
        raise AssertionError("the store knows its attempts")

    def _results_of_tree(self, root: int) -> set[int]:
        runs = self._tree(root) | {run.key for run in self._task_run_rows(root)}
        rows = [*self._of_results["kept"].values(), *self._of_results["unheld"].values()]
        return {row[2] for row in rows if row[0] in runs and row[2] is not None}

    def identity(self, run: int) -> IdentityRow | None:
        row = self._of_results["identity"].get((run,))
        return IdentityRow(*row) if row is not None else None

    def kept(self, run: int) -> KeptRow | None:
        row = self._of_results["kept"].get((run,))
        if row is None:
            return None
        _, attempt, result, inputs = row
        return KeptRow(run, attempt, ResultRow(*self._of_results["result"][(result,)]), tuple(json.loads(inputs)))

    def verdicts(self, run: int) -> list[VerdictRow]:
        rows = [row for row in self._of_results["verdict"].values() if row[0] == run]
        return [VerdictRow(*row) for row in sorted(rows)]

    def calls_at(self, root: int, site: bytes, before_us: int) -> list[IdentityRow]:
        found = [self.identity(run.key) for run in self._task_run_rows(root) if run.created_us < before_us]
        return [one for one in found if one is not None and one.site == site]

    def known_identities(self, root: int) -> dict[bytes, int]:
        runs = sorted(self._task_run_rows(root), key=lambda run: (run.state_type == COMPLETED.value, run.key))
        found = [self.identity(run.key) for run in runs]
        return {one.identity: one.run for one in found if one is not None and one.identity is not None}

    def known_calls(self, runs: Sequence[int]) -> list[EarlierCall]:
        wanted = set(runs)
        found = ((self.identity(run.key), run) for run in self._task_run_rows() if run.key in wanted)
        return [
            _flat(one, run, self._attempts_of(run.key), self.kept(run.key)) for one, run in found if one is not None
        ]

    def highest_indexes(self, root: int) -> dict[tuple[int, str], int]:
        highest: dict[tuple[int, str], int] = {}
        for run in self._task_run_rows(root):
            place = (run.flow_run or 0, run.task_name)
            highest[place] = max(run.index, highest.get(place, 0))
        return highest

    def result_at(self, storage: str, key: str, sha256: bytes) -> int | None:
        rows = (ResultRow(*row) for row in list(self._of_results["result"].values()))
        return min(
            (one.key for one in rows if (one.storage, one.object, one.sha256) == (storage, key, sha256)), default=None
        )

    def locks(self) -> MemoryLocks:
        return self._locks

    def limits(self) -> MemoryLimits:
        return self._limits

    def cached(self, key: str) -> CacheRow | None:
        row = self._of_results["cache"].get((key,))
        if row is None:
            return None
        _, result, run, expires_us, created_us = row
        return CacheRow(key, ResultRow(*self._of_results["result"][(result,)]), run, expires_us, created_us)

    def unheld(self, run: int) -> UnheldRow | None:
        row = self._of_results["unheld"].get((run,))
        return UnheldRow(run, tuple(json.loads(row[1])), row[2]) if row is not None else None

    def result(self, key: int) -> ResultRow | None:
        row = self._of_results["result"].get((key,))
        return ResultRow(*row) if row is not None else None

    def results(self, flow_run: int | None = None, limit: int | None = None) -> list[ResultRow]:
        wanted = None if flow_run is None else self._results_of_tree(flow_run)
        rows = [ResultRow(*row) for row in self._of_results["result"].values() if wanted is None or row[0] in wanted]
        newest_first = sorted(rows, key=lambda row: (row.created_us, row.key), reverse=True)
        return [replace(row, value=None) for row in newest_first[:limit]]

    def reopen_run(
        self,
        run: int,
        process: int,
        asked_by: str,
        is_gone: Callable[[ProcessIdentity], bool | None],
        as_of_us: int | None = None,
    ) -> Reopened:
        raise NotRunnableAgain(IN_MEMORY)
