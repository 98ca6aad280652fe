"""`prefect-core flow-run resume`: lets a paused flow run go on, where it is held or here; and the process that `resume_flow_run` starts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

import click

from prefect_core import history, reexecution, resuming
from prefect_core.cli import forms, output
from prefect_core.cli.again import run_again
from prefect_core.cli.commands import COMPLETED, Command
from prefect_core.cli.execution import carry_out, exit_code_of
from prefect_core.errors import NotPausedError


@click.command("resume", cls=Command)
@click.argument("run")
@click.option(
    "-i",
    "--input",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="A field of what the run waits for, as JSON or else text; repeatable.",
)
@click.option(
    "--task-runner",
    "runners",
    multiple=True,
    metavar="[SUBFLOW=]RUNNER",
    help="Where tasks of a suspended run go on instead, such as concurrent:8; repeatable.",
)
@click.option("--progress", is_flag=True, help="Show what becomes of the task runs, on standard error.")
@output.json_option
def resume(run: str, given: tuple[str, ...], runners: tuple[str, ...], progress: bool, as_json: bool) -> int:
    """Let a paused flow run go on.

    RUN is an id, the unique start of one, or a name. A run that its process holds goes on there. One that is suspended is run in this
    process, from the top: calls that completed, and whose results were stored, are taken over. Exit codes are those of `prefect-core run`.
    """
    answer = _answer(given)
    with history.reading() as stored:
        try:
            found = resuming.Found(stored, run)
        except NotPausedError:
            # It says what to do instead.
            reexecution.refuse_unpaused(stored.flow_run(run))
            raise
        if found.is_held:
            if not resuming.wake(stored, found, answer):
                raise NotPausedError(resuming.NOT_A_PAUSED_RUN)
            if as_json:
                # It has no result yet, like a run that is paused.
                now = forms.Forms(stored).flow_run(stored.flow_run(found.row.key))
                output.write_json({**now, "result": None, "exit_code": COMPLETED})
            else:
                output.say(f"{found.row.name} ({found.row.id}) goes on.")
            return COMPLETED
    resuming.await_left(found)

    def find() -> reexecution.Again:
        nonlocal answer
        again, answer = resuming.prepared(found, answer)
        return again

    return run_again(find, lambda again: resuming.resumed(again, answer), runners, progress=progress, as_json=as_json)


def _answer(given: Sequence[str]) -> str | None:
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not of the form name=value.", param_hint="-i")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    return json.dumps(values) if values else None


def serve() -> NoReturn:
    """Resume a suspended run as this whole process, as the line on standard input says; says on standard output whether it has it."""
    order = json.loads(sys.stdin.readline())
    answering = os.fdopen(os.dup(1), "w")
    # Nobody reads the pipe once it has the run: what the flow prints goes where errors go.
    os.dup2(2, 1)
    with ExitStack() as around:
        try:
            again = _claimed(order["run"], order["input"], around)
        except Exception as error:
            _say(answering, {"type": type(error).__name__, "text": str(error)})
            sys.exit(1)
        _say(answering, None)
        ended = carry_out(again.flow, again.args, again.kwargs)
    sys.exit(exit_code_of(ended))


def _claimed(run: str, given: str | None, around: ExitStack) -> reexecution.Again:
    with history.reading() as stored:
        found = resuming.Found(stored, run)
    resuming.await_left(found)
    again, answer = resuming.prepared(found, given)
    around.enter_context(resuming.resumed(again, answer))
    return again


def _say(answering: Any, told: object) -> None:
    with answering:
        answering.write(json.dumps(told) + "\n")
