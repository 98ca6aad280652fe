"""`prefect-core flow-run retry`: runs a flow run again that did not complete."""

from __future__ import annotations

from functools import partial

import click

from prefect_core import reexecution
from prefect_core.cli import output
from prefect_core.cli.again import run_again
from prefect_core.cli.commands import Command


@click.command("retry", cls=Command)
@click.argument("run")
@click.option(
    "--task-runner",
    "runners",
    multiple=True,
    metavar="[SUBFLOW=]RUNNER",
    help="Where tasks run instead, such as concurrent:8; with a name, the tasks of that subflow; repeatable.",
)
@click.option(
    "--force", is_flag=True, help="Take it that the run's last process has ended, where that can't be known from here."
)
@click.option("--progress", is_flag=True, help="Show what becomes of the task runs, on standard error.")
@output.json_option
def retry(run: str, runners: tuple[str, ...], force: bool, progress: bool, as_json: bool) -> int:
    """Run a failed, crashed or cancelled flow run again, in this process.

    RUN is an id, the unique start of one, or a name. The flow is loaded from where it was, and called with the same parameters. Calls that
    completed, and whose results were stored, are taken over; the rest runs. Hooks that the last process could not call are called first.
    Exit codes are those of `prefect-core run`.
    """
    find = partial(reexecution.find, run, force=force)
    claim = partial(reexecution.reopened, force=force)
    return run_again(find, claim, runners, progress=progress, as_json=as_json)
