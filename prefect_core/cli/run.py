"""`prefect-core run`: runs a flow in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import click

from prefect_core import parameters
from prefect_core.cli import forms, output
from prefect_core.cli.arguments import arguments
from prefect_core.cli.asked import opened
from prefect_core.cli.commands import Command
from prefect_core.cli.execution import carry_out, exit_code_of, stdout_as_stderr
from prefect_core.cli.progress import shown_progress
from prefect_core.engine.flow_run import runner_overrides
from prefect_core.entrypoints import load_flow
from prefect_core.errors import ConfigurationError, MissingFlowError, UnspecifiedFlowError
from prefect_core.history.store import RunFilter
from prefect_core.runs import FlowRun
from prefect_core.task_runners import resolve_runner


@click.command("run", cls=Command)
@click.argument("flow", metavar="FLOW")
@click.option(
    "-p", "--param", "given", multiple=True, metavar="NAME=VALUE", help="A parameter, as JSON or else text; repeatable."
)
@click.option("--params", "document", metavar="JSON", help="Parameters as one JSON object.")
@click.option(
    "--task-runner",
    "runners",
    multiple=True,
    metavar="[SUBFLOW=]RUNNER",
    help="Where tasks run instead, such as concurrent:8; with a name, the tasks of that subflow; repeatable.",
)
@click.option("--progress", is_flag=True, help="Show what becomes of the task runs, on standard error.")
@output.json_option
def run(
    flow: str, given: tuple[str, ...], document: str | None, runners: tuple[str, ...], progress: bool, as_json: bool
) -> int:
    """Run FLOW in this process: path.py:flow or module:flow; without :flow where there is only one.

    The exit code is 0 if the run completed, 1 if it didn't, 130 or 143 if Ctrl-C or SIGTERM ended it.
    """
    with ExitStack() as around:
        if as_json:
            around.enter_context(stdout_as_stderr())
        try:
            found = load_flow(flow)
        except (MissingFlowError, UnspecifiedFlowError) as error:
            raise click.UsageError(str(error)) from error
        args, kwargs = arguments(found, given, document)
        subflows = around.enter_context(replaced_runners(runners))
        if progress:
            around.enter_context(shown_progress())
        ended = carry_out(found, args, kwargs)
    tell(ended, subflows, as_json)
    return exit_code_of(ended)


@contextmanager
def replaced_runners(given: Sequence[str]) -> Iterator[list[str]]:
    """Put these runners in the place of what flows say; gives the names of the subflows meant."""
    chosen: dict[str, str] = {}
    for text in given:
        name, equals, spec = text.partition("=")
        # The argument of a runner may hold the sign too: "dask:tcp://host:8786?x=1".
        name, spec = (name, spec) if equals and ":" not in name else ("", text)
        try:
            resolve_runner(spec)
        except ConfigurationError as error:
            raise click.BadParameter(str(error), param_hint="--task-runner") from error
        chosen[name] = spec
    before = dict(runner_overrides)
    runner_overrides.update(chosen)
    try:
        yield [name for name in chosen if name]
    finally:
        runner_overrides.clear()
        runner_overrides.update(before)


def tell(run: FlowRun, subflows: list[str], as_json: bool) -> None:
    """Say what came of a run, as JSON if asked for, and which subflows that were meant never ran."""
    if not (as_json or subflows):
        return
    with opened() as store:
        row = store.flow_run(str(run.id))
        for name in subflows:
            if not store.flow_runs(RunFilter(name=name, since_us=row.created_us, limit=1)):
                output.say(f"No subflow called {name!r} ran, so its --task-runner changed nothing.")
        if as_json:
            # Also of a run that does not keep its result in memory.
            result = run.state.result() if run.state.is_completed() else None
            output.write_json(
                {
                    **forms.Forms(store).flow_run(row),
                    "result": parameters.as_json({"result": result})["result"],
                    "exit_code": exit_code_of(run),
                }
            )
