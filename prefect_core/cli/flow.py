"""`prefect-core flow`: the flows that ran."""

from __future__ import annotations

import click

from prefect_core.cli import forms, output
from prefect_core.cli.asked import opened
from prefect_core.cli.commands import Group


@click.group("flow", cls=Group)
def flow() -> None:
    """List the flows that ran."""


@flow.command("ls")
@output.json_option
def ls(as_json: bool) -> None:
    """List the flows that ran, each with its newest run."""
    with opened() as store:
        rows = store.flows()
    if as_json:
        output.write_json([forms.flow(row) for row in rows])
        return
    output.table(
        ("FLOW", "RUNS", "LAST RUN", "STATE", "CREATED"),
        [
            (
                row.name,
                str(row.runs),
                row.last_run,
                output.state_cell(row.last_state_type, row.last_state_name),
                output.local(row.last_created),
            )
            for row in rows
        ],
    )
