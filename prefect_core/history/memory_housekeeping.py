"""Letting go of stored results in the history in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from prefect_core import clock
from prefect_core.errors import NotRunnableAgain
from prefect_core.history.batch import NOTED, OF_ENDS, OF_RESULTS, Row
from prefect_core.history.housekeeping import ResultStats
from prefect_core.history.process import this_process
from prefect_core.history.store import IN_MEMORY
from prefect_core.history.stored import DoomedRow, Holders, ReopeningRow
from prefect_core.history.verdicts import DROPPED

if TYPE_CHECKING:
    from prefect_core.history.housekeeping import IsGone

KEY_COLUMNS = {"identity": 1, "result": 1, "kept": 1, "cache": 1, "unheld": 1, "verdict": 2, "borrowed": 1}
KEY_COLUMNS |= {"pause": 2, "ending": 1, "owed": 2, "called": 2}
_RESULT = {table: OF_RESULTS[table].index("result") for table in ("kept", "cache", "unheld")}
"""The column with the result that a row refers to."""
_CACHE_RUN = OF_RESULTS["cache"].index("run")


class MemoryHousekeeping:
    """The part of `MemoryStore` that is a `ResultsHousekeeping`: rows by table and key, and what goes with what."""

    def __init__(self) -> None:
        self._of_results: dict[str, dict[Row, Row]] = {table: {} for table in KEY_COLUMNS}
        self._doomed: dict[tuple[str, str], int] = {}

    def _open_roots(self) -> list[int]:
        """Return the root flow runs that have not ended."""
        raise AssertionError("the store knows its flow runs")

    def _results_of_tree(self, root: int) -> set[int]:
        """Return the results that a flow run, and all runs in it, refer to."""
        raise AssertionError("the store knows its runs")

    def _take_of_results(self, rows: dict[str, list[Row]]) -> None:
        for table in NOTED:
            for row in rows.get(table, ()):
                key = row[: KEY_COLUMNS[table]]
                before = self._of_results[table].get(key)
                is_of_nothing = table in ("kept", "cache") and (row[_RESULT[table]],) not in self._of_results["result"]
                if is_of_nothing:
                    self._of_results[table].pop(key, None)
                elif before is None or table not in ("result", "verdict", "owed", "called"):
                    self._of_results[table][key] = row
                if before is not None and table in _RESULT:
                    self._drop_unless_referenced(before[_RESULT[table]])

    def _forget_of_results(self, runs: set[int]) -> None:
        for table in ("identity", "kept", "unheld", "verdict", "pause", *OF_ENDS):
            for row in [row for row in self._of_results[table].values() if row[0] in runs]:
                self._remove(table, row)
        for row in [row for row in self._of_results["cache"].values() if row[_CACHE_RUN] in runs]:
            heirs = [kept[0] for kept in self._of_results["kept"].values() if kept[_RESULT["kept"]] == row[1]]
            if heirs:
                self._of_results["cache"][row[:1]] = (*row[:_CACHE_RUN], min(heirs), *row[_CACHE_RUN + 1 :])
            else:
                self._remove("cache", row)

    def _remove(self, table: str, row: Row) -> None:
        self._of_results[table].pop(row[: KEY_COLUMNS[table]], None)
        if table in _RESULT:
            self._drop_unless_referenced(row[_RESULT[table]])

    def _drop_unless_referenced(self, result: int | None) -> None:
        if result is not None and not any(self._references(table, result) for table in _RESULT):
            self._drop(result)

    def _references(self, table: str, result: int) -> list[Row]:
        return [row for row in self._of_results[table].values() if row[_RESULT[table]] == result]

    def _drop(self, result: int) -> None:
        row = self._of_results["result"].pop((result,), None)
        is_borrowed = self._of_results["borrowed"].pop((result,), None) is not None
        if row is None or row[3] is None:
            return
        _, _, storage, name, *_, created_us = row
        if not is_borrowed and not self.named_objects(storage, [name]):
            self._doomed[storage, name] = max(created_us, self._doomed.get((storage, name), 0))

    def reopenings(self, run: int) -> list[ReopeningRow]:
        return []

    def check_runnable(self, run: int, is_gone: IsGone) -> None:
        raise NotRunnableAgain(IN_MEMORY)

    def holders(self, results: Sequence[int]) -> dict[int, Holders]:
        return {
            key: Holders(
                *(
                    tuple(sorted(row[0] for row in self._references(table, key)))
                    for table in ("kept", "unheld", "cache")
                )
            )
            for key in results
        }

    def results_in_use(self, is_gone: IsGone) -> set[int]:
        if is_gone(this_process()) is True:
            return set()
        return {result for root in self._open_roots() for result in self._results_of_tree(root)}

    def drop_results(self, results: Sequence[int], reason: str, is_gone: IsGone) -> list[int]:
        in_use, at_us = self.results_in_use(is_gone), clock.now_us()
        gone = [key for key in results if (key,) in self._of_results["result"] and key not in in_use]
        for key in gone:
            for table, later in (("kept", 0), ("unheld", 1)):
                for run, *_ in self._references(table, key):
                    self._of_results["verdict"].setdefault((run, at_us + later), (run, at_us + later, DROPPED, reason))
            for row in self._references("unheld", key):
                self._of_results["unheld"][row[:1]] = (*row[: _RESULT["unheld"]], None)
            for table in ("cache", "kept"):
                for row in self._references(table, key):
                    self._of_results[table].pop(row[:1])
            self._drop(key)
        return gone

    def unreferenced_results(self, before_us: int) -> list[int]:
        rows = self._of_results["result"].values()
        return sorted(
            row[0]
            for row in rows
            if row[-1] < before_us and not any(self._references(table, row[0]) for table in _RESULT)
        )

    def doomed(self, most: int, besides: Collection[str] = ()) -> list[DoomedRow]:
        rows = [DoomedRow(*place, written_us) for place, written_us in sorted(self._doomed.items())]
        return [row for row in rows if row.storage not in besides][:most]

    def forget_doomed(self, objects: Sequence[DoomedRow]) -> None:
        for storage, name, written_us in objects:
            if self._doomed.get((storage, name)) == written_us:
                del self._doomed[storage, name]

    def named_objects(self, storage: str, objects: Sequence[str]) -> set[str]:
        named = {row[3] for row in self._of_results["result"].values() if row[2] == storage}
        return named.intersection(objects)

    def result_storages(self) -> list[str]:
        storages = {row[2] for row in self._of_results["result"].values() if row[2] is not None}
        return sorted(storages | {storage for storage, _ in self._doomed})

    def result_stats(self) -> ResultStats:
        rows = self._of_results["result"].values()
        sizes = [(row[5], row[2] is None) for row in rows]
        inside = sum(size for size, is_inside in sizes if is_inside)
        return ResultStats(len(sizes), sum(size for size, _ in sizes), inside, len(self._doomed))
