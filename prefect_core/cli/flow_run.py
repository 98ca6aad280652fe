"""`prefect-core flow-run`: what is known of flow runs."""

from __future__ import annotations

import logging
import sys

import click

from prefect_core.cli import forms, output
from prefect_core.cli.asked import MOMENT, opened, runs, state_option, states
from prefect_core.cli.commands import Group
from prefect_core.cli.log_lines import log_lines
from prefect_core.cli.sections import attempts, course, reopenings, states_of, workers
from prefect_core.cli.sweeping import swept
from prefect_core.errors import PrefectException
from prefect_core.history.rows import FlowRunRow
from prefect_core.history.store import HistoryStore, RunFilter
from prefect_core.state_kinds import FINAL, StateType

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@click.group(
    "flow-run",
    cls=Group,
    late={
        "cancel": "cancelling:cancel_flow_run",
        "pause": "pausing:pause",
        "resume": "resuming:resume",
        "retry": "retry:retry",
    },
)
def flow_run() -> None:
    """List, inspect, pause, cancel and delete flow runs, read their logs, and run them again.

    RUN is an id, the unique start of one, or a name (the newest run of that name).
    """


@flow_run.command("ls")
@click.option("--flow", "flow_name", metavar="NAME", help="Only runs of this flow.")
@state_option("Only runs in this kind of state, or in a state of this name; repeatable.")
@click.option(
    "--tag", "tags", multiple=True, metavar="TAG", help="Only runs with this tag; repeatable, a run must have all."
)
@click.option("--since", type=MOMENT, help="Only runs created since then: 30m, 7d, 2026-01-31.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many, the newest.")
@output.json_option
def ls(
    flow_name: str | None,
    in_states: tuple[str, ...],
    tags: tuple[str, ...],
    since: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """List flow runs, newest first."""
    wanted = RunFilter(name=flow_name, tags=tags, since_us=since, limit=limit + 1)
    with opened() as store:
        found = runs(store.flow_runs, wanted, states(in_states))
        if as_json:
            make = forms.Forms(store)
            output.write_json([make.flow_run(run) for run in found[:limit]])
        else:
            output.table(("NAME", "FLOW", "STATE", "CREATED", "DURATION", "ID"), [_cells(run) for run in found[:limit]])
    if len(found) > limit:
        output.say(f"There are more than {limit}; --limit shows more.")


def _cells(run: FlowRunRow) -> tuple[str, ...]:
    state = output.state_cell(run.state_type, run.state_name)
    return run.name, run.flow_name, state, output.local(run.created), output.span(run.duration_seconds), str(run.id)


@flow_run.command("inspect")
@click.argument("run")
@output.json_option
def inspect(run: str, as_json: bool) -> None:
    """Show all that is known of a flow run."""
    with opened() as store:
        row = store.flow_run(run)
        if as_json:
            make = forms.Forms(store)
            output.write_json(
                {
                    **make.flow_run(row),
                    "states": [forms.state(one) for one in store.states(row.key)],
                    "attempts": [forms.attempt(one) for one in store.attempts(row.key)],
                    "reopenings": [forms.reopening(one) for one in store.reopenings(row.key)],
                    "task_runs_by_state": store.counts_by_state(row.key),
                    "task_runs_by_worker": store.counts_by_worker(row.key),
                    "subflow_runs": [make.flow_run(child) for child in store.children(row.key)],
                }
            )
        else:
            _show(store, row)


def _show(store: HistoryStore, row: FlowRunRow) -> None:
    make = forms.Forms(store)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(store.counts_by_state(row.key).items()))
    output.record(
        [
            ("Flow run", row.name),
            ("Id", str(row.id)),
            ("Flow", row.flow_name),
            ("Version", row.flow_version or "-"),
            ("Entry point", row.entrypoint or "-"),
            ("Task runner", row.runner),
            ("Called in", make.flow_run_id(row.parent_flow_run) or "-"),
            ("Process", make.infrastructure_pid(row) or "-"),
            *course(row),
            ("Task runs", counts or "none"),
        ]
    )
    if row.parameters:
        output.heading("\nParameters")
        output.record([(f"  {name}", output.one_line(value)) for name, value in row.parameters.items()])
    workers(store, row.key)
    attempts(store, row.key)
    reopenings(store, row.key)
    states_of(store, row.key)
    children = store.children(row.key)
    if children:
        output.heading("\nSubflow runs")
        output.table(("NAME", "FLOW", "STATE", "CREATED", "DURATION", "ID"), [_cells(child) for child in children])


@flow_run.command("logs")
@click.argument("run")
@click.option(
    "--level",
    type=click.Choice(LEVELS, case_sensitive=False),
    default="INFO",
    show_default=True,
    help="The least level shown.",
)
@click.option("--task", metavar="NAME", help="Only the lines of task runs of this name, or of this task.")
@output.json_option
def logs(run: str, level: str, task: str | None, as_json: bool) -> None:
    """Show the log of a flow run, with its task runs and subflow runs."""
    with opened() as store:
        lines = log_lines(store, store.flow_run(run), logging.getLevelName(level.upper()), task)
    if as_json:
        output.write_json([line.form() for line in lines])
    else:
        for line in lines:
            click.echo(line.text())


@flow_run.command("delete")
@click.argument("run", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--force", is_flag=True, help="Delete runs that have not ended, too.")
def delete(run: tuple[str, ...], yes: bool, force: bool) -> int:
    """Delete flow runs with all that is in them: task runs, subflow runs, states, logs, and results that no other run has."""
    with opened() as store:
        rows = list({row.key: row for row in map(store.flow_run, run)}.values())
        under_way = [row.name for row in rows if StateType(row.state_type) not in FINAL]
        if under_way and not force:
            raise PrefectException(
                f"Not ended: {', '.join(under_way)}. A run that still works would write to the history again; "
                "--force deletes one that doesn't."
            )
        # Scripts name what they mean; a person may have mistaken one name for another.
        if not yes and sys.stdin.isatty():
            click.confirm(f"Delete {', '.join(f'{row.name} ({row.id})' for row in rows)}?", abort=True, err=True)
        for row in rows:
            gone = store.delete_flow_run(row.key)
            output.say(
                f"Deleted {row.name} ({row.id}): {gone} runs." if gone else f"{row.name} ({row.id}) was gone already."
            )
        return swept(store)
