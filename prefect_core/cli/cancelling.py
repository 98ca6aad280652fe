"""`prefect-core flow-run cancel` and `task-run cancel`: end runs that are under way, or suspended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from prefect_core import cancelling
from prefect_core.cli.commands import Command

F = TypeVar("F", bound=Callable[..., Any])


def _grace_option(command: F) -> F:
    return click.option(
        "--grace-seconds",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="How long what runs may take to end by itself; by default as the setting cancel_grace_seconds says.",
    )(command)


@click.command("cancel", cls=Command)
@click.argument("run")
@_grace_option
def cancel_flow_run(run: str, grace_seconds: float | None) -> None:
    """Cancel a flow run, with all that runs in it.

    RUN is an id, the unique start of one, or a name. The process that has the run is asked, and stops what can be stopped when the grace
    period is over; one of this machine that does not answer by then is killed. A subflow run may be cancelled alone.
    """
    cancelling.cancel_flow_run(run, grace_seconds)
    click.echo(f"Flow run '{run}' was successfully scheduled for cancellation.")


@click.command("cancel", cls=Command)
@click.argument("run")
@_grace_option
def cancel_task_run(run: str, grace_seconds: float | None) -> None:
    """Cancel a task run while its flow goes on.

    RUN is an id, the unique start of one, or a name. It is not tried again, whatever retries it has.
    """
    cancelling.cancel_task_run(run, grace_seconds)
    click.echo(f"Task run '{run}' was successfully scheduled for cancellation.")
