"""`prefect-core run why`: why a run is not running, not finished, or ended as it did."""

from __future__ import annotations

import click

from prefect_core.cli import output
from prefect_core.cli.asked import opened
from prefect_core.cli.commands import Command
from prefect_core.reasons import finding


@click.command("run why", cls=Command)
@click.argument("run")
@output.json_option
def why(run: str, as_json: bool) -> None:
    """Say in one sentence why a run is not running, not finished, or ended as it did.

    RUN is a flow run or a task run: an id, the unique start of one, or a name (the newest run of that name).
    """
    with opened() as store:
        found = finding.why(store, run)
    if as_json:
        output.write_json(found.as_json())
    else:
        click.echo(found.sentence)
