"""`prefect-core flow-run retry`: runs a flow run again that did not complete."""

from __future__ import annotations

from contextlib import ExitStack

import click

from prefect_core import reexecution
from prefect_core.cli import output
from prefect_core.cli.commands import Command
from prefect_core.cli.execution import carry_out, exit_code_of, stdout_as_stderr
from prefect_core.cli.progress import shown_progress
from prefect_core.cli.run import replaced_runners, tell


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
    completed, and whose results were stored, are taken over; the rest runs. Exit codes are those of `prefect-core run`.
    """
    with ExitStack() as around:
        if as_json:
            around.enter_context(stdout_as_stderr())
        again = reexecution.find(run, force=force)
        subflows = around.enter_context(replaced_runners(runners))
        if progress:
            around.enter_context(shown_progress())
        around.enter_context(reexecution.reopened(again, force=force))
        ended = carry_out(again.flow, again.args, again.kwargs)
    tell(ended, subflows, as_json)
    return exit_code_of(ended)
