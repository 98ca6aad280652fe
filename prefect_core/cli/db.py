"""`prefect-core db`: looking after the history."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from prefect_core import clock, settings
from prefect_core.cli import output
from prefect_core.cli.asked import MOMENT, opened, state_option, states
from prefect_core.cli.commands import FAILED, Group
from prefect_core.cli.sweeping import Holding, swept
from prefect_core.history.housekeeping import ResultStats
from prefect_core.history.store import HistoryStats
from prefect_core.results.housekeeping import object_problems
from prefect_core.state_kinds import FINAL, StateType


@click.group("db", cls=Group)
def db() -> None:
    """Measure, prune, copy and check the history."""


@db.command("stats")
@output.json_option
def stats(as_json: bool) -> None:
    """Show how large the history is and what is in it."""
    home = str(settings.current().home)
    with opened(marks_lost=False) as store:
        found, results = store.stats(), store.result_stats()
    if as_json:
        output.write_json(_form(home, found, results))
        return
    output.record(
        [
            ("Home", home),
            ("Engine", found.engine),
            ("Schema", str(found.schema_version)),
            ("Size", output.size(found.bytes)),
            ("Write-ahead log", output.size(found.wal_bytes)),
            ("Stored results", _results_in_words(results)),
            ("Complete", _losses_in_words(found)),
        ]
    )
    click.echo()
    output.table(("ROWS OF", "COUNT"), [(name, f"{count:,}") for name, count in found.rows.items()])


def _form(home: str, found: HistoryStats, results: ResultStats) -> dict[str, Any]:
    return {
        "home": home,
        "engine": found.engine,
        "schema_version": found.schema_version,
        "bytes": found.bytes,
        "wal_bytes": found.wal_bytes,
        "rows": found.rows,
        "results": {
            "count": results.rows,
            "bytes": results.bytes,
            "bytes_in_history": results.bytes_inside,
            "objects_to_delete": results.doomed,
        },
        "incomplete_since": output.iso(_incomplete_since(found)),
        "missing_rows": found.missing_rows,
    }


def _incomplete_since(found: HistoryStats) -> datetime | None:
    return None if found.incomplete_since_us is None else clock.to_datetime(found.incomplete_since_us)


def _losses_in_words(found: HistoryStats) -> str:
    since = _incomplete_since(found)
    if since is None:
        return "yes"
    return f"no, {found.missing_rows} rows could not be written since {output.local(since)}"


def _results_in_words(results: ResultStats) -> str:
    text = f"{results.rows:,} ({output.size(results.bytes)}, {output.size(results.bytes_inside)} of it in the history)"
    return f"{text}; {results.doomed:,} objects are yet to be deleted" if results.doomed else text


@db.command("prune")
@click.option(
    "--older-than", type=MOMENT, required=True, help="Delete what ended longer ago: 30d, 12h, or before a date."
)
@state_option("Only runs that ended in this kind of state; repeatable.")
@output.json_option
def prune(older_than: int, in_states: tuple[str, ...], as_json: bool) -> int:
    """Delete old flow runs with all that is in them, old task runs outside of flows, and results that no other run has."""
    kinds = states(in_states)
    ends = [kind.value for kind in StateType if kind in FINAL]
    unknown = [*kinds.names, *(kind for kind in kinds.types if kind not in ends)]
    if unknown:
        raise click.BadParameter(
            f"{unknown[0]!r} is no kind of final state; they are {', '.join(ends)}.", param_hint="--state"
        )
    with opened(marks_lost=False) as store:
        gone = store.prune(older_than, kinds.types)
        code = swept(store)
    moment = clock.to_datetime(older_than)
    if as_json:
        output.write_json({"deleted_runs": gone, "ended_before": output.iso(moment)})
    else:
        output.say(f"Deleted {gone} runs that ended before {output.local(moment)}.")
    return code


@db.command("backup")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
def backup(path: Path) -> None:
    """Write a copy of the history to a new file, while others go on writing."""
    with opened(marks_lost=False) as store:
        store.backup(path)
    output.say(f"Copied the history to {path} ({output.size(path.stat().st_size)}).")


@db.command("check")
@click.option("--objects", is_flag=True, help="Look for the objects of stored results, too.")
@output.json_option
def check(objects: bool, as_json: bool) -> int:
    """Look for damage in the history; the exit code is 1 if there is any."""
    with opened(marks_lost=False) as store:
        problems = store.check()
        if objects:
            problems += object_problems(store, lambda row: Holding(store).owner(row))
    if as_json:
        output.write_json({"ok": not problems, "problems": problems})
    else:
        for line in problems or ["The history is sound."]:
            click.echo(line)
    return FAILED if problems else 0
