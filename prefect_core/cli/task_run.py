"""`prefect-core task-run`: what is known of task runs."""

from __future__ import annotations

import click

from prefect_core.cli import forms, output
from prefect_core.cli.asked import opened, runs, state_option, states
from prefect_core.cli.commands import Group
from prefect_core.cli.sections import attempts, course, states_of
from prefect_core.errors import ObjectNotFound
from prefect_core.history.rows import Input, TaskRunRow
from prefect_core.history.store import HistoryStore, RunFilter


@click.group("task-run", cls=Group, late={"cancel": "cancelling:cancel_task_run", "explain": "explain:explain"})
def task_run() -> None:
    """List, inspect and cancel task runs, and explain why they ran.

    RUN is an id, the unique start of one, or a name (the newest run of that name).
    """


@task_run.command("ls")
@click.option("--flow-run", "flow_run", metavar="RUN", help="Only task runs of this flow run.")
@click.option("--task", "task_name", metavar="NAME", help="Only runs of this task.")
@state_option("Only runs in this kind of state, or in a state of this name; repeatable.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many, the newest.")
@output.json_option
def ls(flow_run: str | None, task_name: str | None, in_states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List task runs, newest first."""
    with opened() as store:
        owner = None if flow_run is None else store.flow_run(flow_run).key
        wanted = RunFilter(name=task_name, flow_run=owner, limit=limit + 1)
        found = runs(store.task_runs, wanted, states(in_states))
        if as_json:
            make = forms.Forms(store)
            output.write_json([make.task_run(run) for run in found[:limit]])
        else:
            output.table(("NAME", "STATE", "CREATED", "DURATION", "RUNS", "ID"), [_cells(run) for run in found[:limit]])
    if len(found) > limit:
        output.say(f"There are more than {limit}; --limit shows more.")


def _cells(run: TaskRunRow) -> tuple[str, ...]:
    state = output.state_cell(run.state_type, run.state_name)
    return (
        run.name,
        state,
        output.local(run.created),
        output.span(run.duration_seconds),
        str(run.run_count),
        str(run.id),
    )


@task_run.command("inspect")
@click.argument("run")
@output.json_option
def inspect(run: str, as_json: bool) -> None:
    """Show all that is known of a task run."""
    with opened() as store:
        row = store.task_run(run)
        if as_json:
            output.write_json(
                {
                    **forms.Forms(store).task_run(row),
                    "states": [forms.state(one) for one in store.states(row.key)],
                    "attempts": [forms.attempt(one) for one in store.attempts(row.key)],
                }
            )
        else:
            _show(store, row)


def _show(store: HistoryStore, row: TaskRunRow) -> None:
    make = forms.Forms(store)
    output.record(
        [
            ("Task run", row.name),
            ("Id", str(row.id)),
            ("Task", row.task_name),
            ("Key", row.task_key),
            ("Flow run", make.flow_run_id(row.flow_run) or "-"),
            ("Called in", make.task_run_id(row.parent_task_run) or "-"),
            ("Subflow run", make.flow_run_id(row.child_flow_run) or "-"),
            ("Worker", row.worker or "-"),
            ("Runs", str(row.run_count)),
            *course(row),
        ]
    )
    if row.inputs:
        output.heading("\nInputs")
        output.table(
            ("PARAMETER", "FROM", "ID"), [(one.parameter, _source(store, one), str(one.id)) for one in row.inputs]
        )
    attempts(store, row.key)
    states_of(store, row.key)


def _source(store: HistoryStore, one: Input) -> str:
    try:
        return (store.task_run(str(one.id)) if one.kind == "task_run" else store.flow_run(str(one.id))).name
    except ObjectNotFound:
        return "-"
