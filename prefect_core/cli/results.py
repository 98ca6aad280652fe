"""`prefect-core results`: what is stored of the values of runs."""

from __future__ import annotations

from typing import Any

import click

from prefect_core import clock
from prefect_core.cli import forms, output
from prefect_core.cli.asked import MOMENT, SIZE, opened
from prefect_core.cli.commands import FAILED, Group
from prefect_core.cli.sweeping import Holding
from prefect_core.errors import ConfigurationError, StorageError
from prefect_core.history.process import is_gone, this_user
from prefect_core.history.store import HistoryStore
from prefect_core.history.stored import Holders, ResultRow
from prefect_core.results.housekeeping import Retention, orphans, places, sweep
from prefect_core.storage import resolve_storage

_HOUR_US = 3_600_000_000


@click.group("results", cls=Group)
def results() -> None:
    """List stored results, and drop those that are no longer wanted. Nothing here loads them."""


@results.command("ls")
@click.option("--flow-run", "flow_run", metavar="RUN", help="Only results of this flow run and of all runs in it.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many, the newest.")
@output.json_option
def ls(flow_run: str | None, limit: int, as_json: bool) -> None:
    """List stored results, newest first."""
    with opened() as store:
        owner = None if flow_run is None else store.flow_run(flow_run).key
        found = store.results(owner, limit + 1)
        _show(store, found[:limit], as_json)
    if len(found) > limit:
        output.say(f"There are more than {limit}; --limit shows more.")


def _show(store: HistoryStore, rows: list[ResultRow], as_json: bool) -> None:
    holding = Holding(store)
    holders = holding.of(rows)
    if as_json:
        output.write_json([_form(holding, row, holders[row.key]) for row in rows])
        return
    output.table(
        ("RUN", "SIZE", "SERIALIZER", "CREATED", "RUNS", "WHERE"),
        [_cells(row, holders[row.key], holding.name(holders[row.key])) for row in rows],
    )


def _cells(row: ResultRow, holders: Holders, name: str) -> tuple[str, ...]:
    runs = len({*holders.runs, *holders.parameters_of})
    place = "history" if row.storage is None else f"{row.storage}/{row.object}"
    return name, output.size(row.size), row.serializer, output.local(row.created), str(runs), place


def _form(holding: Holding, row: ResultRow, holders: Holders) -> dict[str, Any]:
    def ids(keys: tuple[int, ...]) -> list[str]:
        return [str(run.id) for run in map(holding.run, keys) if run is not None]

    return {
        "run": holding.name(holders),
        "run_ids": ids(holders.runs),
        "parameters_of": ids(holders.parameters_of),
        "cache_keys": list(holders.cache_keys),
        **forms.result(row),
    }


@results.command("prune")
@click.option("--older-than", type=MOMENT, help="Drop results that were made longer ago: 30d, 12h, or before a date.")
@click.option("--larger-than", type=SIZE, help="Drop results with more bytes: 500kB, 64MiB.")
@click.option("--keep-total", type=SIZE, help="Drop the oldest until all together have at most so many bytes.")
@click.option("--orphans", "with_orphans", is_flag=True, help="Delete what killed processes left behind in storages.")
@click.option("--dry-run", is_flag=True, help="Only show what would go.")
@output.json_option
def prune(
    older_than: int | None,
    larger_than: int | None,
    keep_total: int | None,
    with_orphans: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Drop stored results. Their runs stay as they are, and run again when they are asked for.

    --older-than and --larger-than together drop what is both; --keep-total looks at what they leave. Results of flow runs that are under
    way stay.
    """
    wanted = Retention(older_than, larger_than, keep_total)
    if wanted == Retention() and not with_orphans:
        raise click.UsageError("Say what to drop: --older-than, --larger-than, --keep-total, --orphans.")
    with opened() as store:
        pruning = _Pruning(store, with_orphans)
        pruning.choose(wanted)
        if dry_run:
            pruning.show(as_json)
            return 0
        pruning.carry_out()
    pruning.report(as_json)
    return FAILED if pruning.problems else 0


class _Pruning:
    """One call of `results prune`."""

    def __init__(self, store: HistoryStore, with_orphans: bool) -> None:
        self._store = store
        self._with_orphans = with_orphans
        self._before_us = clock.now_us() - _HOUR_US
        self._chosen: list[ResultRow] = []
        self.deleted_objects = 0
        self.orphans = 0
        self.orphan_bytes = 0
        self.leftovers = 0
        self.problems: list[str] = []

    def choose(self, wanted: Retention) -> None:
        store = self._store
        rows = store.results()
        self._chosen = wanted.chosen(rows, store.results_in_use(is_gone))
        if self._with_orphans:
            chosen = {row.key for row in self._chosen}
            loose = set(store.unreferenced_results(self._before_us)) - chosen
            self._chosen += [row for row in rows if row.key in loose]

    def carry_out(self) -> None:
        gone = set(
            self._store.drop_results(
                [row.key for row in self._chosen], f"by results prune, asked for by {this_user()}", is_gone
            )
        )
        self._chosen = [row for row in self._chosen if row.key in gone]
        swept = sweep(self._store)
        self.deleted_objects, self.problems = swept.deleted, swept.problems
        if self._with_orphans:
            self._look_for_orphans(delete=True)

    def _look_for_orphans(self, *, delete: bool) -> None:
        for url in places(self._store):
            try:
                storage = resolve_storage(url)
                for found in orphans(self._store, url, self._before_us):
                    if not delete or storage.delete(found.key):
                        self.orphans += 1
                        self.orphan_bytes += found.size
                self.leftovers += storage.clear_leftovers(self._before_us) if delete else 0
            except (StorageError, ConfigurationError) as error:
                self.problems.append(f"Not all orphans in {url} could be looked for. {error}")

    def show(self, as_json: bool) -> None:
        if self._with_orphans:
            self._look_for_orphans(delete=False)
        _show(self._store, self._chosen, as_json)
        output.say(f"Would drop {self._in_words()}.")
        for problem in self.problems:
            output.say(problem)

    def report(self, as_json: bool) -> None:
        if as_json:
            output.write_json(
                {
                    "dropped_results": len(self._chosen),
                    "dropped_bytes": sum(row.size for row in self._chosen),
                    "deleted_objects": self.deleted_objects,
                    "deleted_orphans": self.orphans,
                    "deleted_leftovers": self.leftovers,
                    "problems": self.problems,
                }
            )
        else:
            output.say(f"Dropped {self._in_words()}.")
        for problem in self.problems:
            output.say(problem)

    def _in_words(self) -> str:
        size = output.size(sum(row.size for row in self._chosen))
        text = f"{_count(len(self._chosen), 'stored result')} ({size})"
        if self._with_orphans:
            text += f" and {_count(self.orphans, 'orphan')} ({output.size(self.orphan_bytes)})"
        return text


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
