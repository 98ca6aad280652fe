"""`prefect-core flow-run pause`: asks the process of a flow run to pause it."""

from __future__ import annotations

import click

from prefect_core import history
from prefect_core.cli import output
from prefect_core.cli.commands import Command
from prefect_core.engine.pausing import Wish
from prefect_core.pausing import ask_to_pause


@click.command("pause", cls=Command)
@click.argument("run")
@click.option(
    "--suspend", is_flag=True, help="Let its process end the run; whoever resumes it runs it again from the top."
)
@click.option(
    "--timeout", type=click.FloatRange(0), default=3600, show_default=True, help="Seconds in which it must be resumed."
)
@click.option("--key", help="A name for this pause.")
def pause(run: str, suspend: bool, timeout: float, key: str | None) -> None:
    """Pause a flow run that is under way: no task or subflow of it begins any more, and those that run go on.

    RUN is an id, the unique start of one, or a name. When this returns, it is paused. It waits in its process until it is resumed, or
    with --suspend ends it once what runs has ended.
    """
    message = ask_to_pause(run, Wish(timeout, key, is_suspended=suspend, name="Suspended" if suspend else None))
    with history.reading() as stored:
        row = stored.flow_run(run)
    output.say(f"{row.name} ({row.id}) is {'suspended' if suspend else 'paused'}.{f' {message}' if message else ''}")
