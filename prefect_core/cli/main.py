"""The entry point of the command `prefect-core`. It loads click and nothing else until a command is known."""

from __future__ import annotations

import click

from prefect_core.cli.commands import Root

NAME = "prefect-core"

COMMANDS = {
    "run": ("run:run", "Run a flow."),
    "run why": ("why:why", "Say why a run is not running, not finished, or ended as it did."),
    "flow-run": ("flow_run:flow_run", "List, inspect, pause, cancel, retry and delete flow runs, and read their logs."),
    "recover": ("recover:recover", "Do what lost processes left undone: call hooks, run crashed runs again."),
    "task-run": ("task_run:task_run", "List, inspect and cancel task runs, and explain why they ran."),
    "flow": ("flow:flow", "List the flows that ran."),
    "limit": ("limit:limit", "Make, list and remove concurrency limits, and see who holds slots."),
    "results": ("results:results", "List stored results, and drop those that are no longer wanted."),
    "config": ("config:config", "Show the settings and where they come from."),
    "db": ("db:db", "Measure, prune, copy and check the history."),
    "doctor": ("doctor:doctor", "Check that prefect_core can work here."),
    "version": ("version:version", "Show the version."),
    "completion": ("completion:completion", "Print the script that makes a shell complete commands and options."),
}


@click.command(NAME, cls=Root, places=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
def program() -> None:
    """Run flows, and see what happened in them.

    Data goes to standard output, messages to standard error; every command that reads takes --json. Exit codes: 0 done, 1 failed,
    2 called wrongly, 130 and 143 stopped by Ctrl-C and SIGTERM.
    """


def main() -> None:
    """Run the program with the arguments of this process, and leave Python with its exit code."""
    program.main(prog_name=NAME)
