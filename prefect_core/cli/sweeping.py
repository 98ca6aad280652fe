"""What commands that drop results share: deleting their objects, and telling whose a result is."""

from __future__ import annotations

from prefect_core.cli import output
from prefect_core.cli.commands import FAILED
from prefect_core.errors import ObjectNotFound
from prefect_core.history.rows import FlowRunRow, TaskRunRow
from prefect_core.history.store import HistoryStore
from prefect_core.history.stored import Holders, ResultRow
from prefect_core.results.housekeeping import sweep


def swept(store: HistoryStore) -> int:
    """Delete the objects of dropped results, and say what kept some from going; returns the exit code."""
    problems = sweep(store).problems
    for problem in problems:
        output.say(problem)
    return FAILED if problems else 0


class Holding:
    """Finds the runs that refer to results."""

    def __init__(self, store: HistoryStore) -> None:
        self._store = store

    def of(self, rows: list[ResultRow]) -> dict[int, Holders]:
        """Return who refers to each of these results."""
        return self._store.holders([row.key for row in rows])

    def run(self, key: int) -> TaskRunRow | FlowRunRow | None:
        """Return the run with a key, if it is still there."""
        try:
            return self._store.task_run(key)
        except ObjectNotFound:
            try:
                return self._store.flow_run(key)
            except ObjectNotFound:
                return None

    def name(self, holders: Holders) -> str:
        """Return by whose name a result is shown."""
        for keys, text in ((holders.runs, "{}"), (holders.parameters_of, "{} (parameters)")):
            run = self.run(keys[0]) if keys else None
            if run is not None:
                return text.format(run.name)
        return "-"

    def owner(self, row: ResultRow) -> str:
        """Return the name and id of the run whose result this is, for a sentence."""
        holders = self.of([row])[row.key]
        keys = (*holders.runs, *holders.parameters_of)
        run = self.run(keys[0]) if keys else None
        return f"{run.name} ({run.id})" if run is not None else f"no run ({row.key})"
