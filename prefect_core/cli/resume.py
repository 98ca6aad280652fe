"""`prefect-core flow-run resume`: lets a paused flow run go on."""

from __future__ import annotations

import click

from prefect_core import reexecution
from prefect_core.cli.asked import opened
from prefect_core.cli.commands import Command
from prefect_core.errors import NotRunnableAgain


@click.command("resume", cls=Command)
@click.argument("run")
def resume(run: str) -> int:
    """Let a paused flow run go on.

    RUN is an id, the unique start of one, or a name. A run that failed, crashed or was cancelled is run again by `retry` instead.
    """
    with opened() as store:
        row = store.flow_run(run)
    reexecution.refuse_unpaused(row)
    raise NotRunnableAgain(f"{row.name} was paused from inside, and can't be resumed from another process.")
