"""Runs a flow run again: for the commands that do so, and in a process that `recovering` starts for it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack

from prefect_core import reexecution
from prefect_core.cli.execution import carry_out, exit_code_of, stdout_as_stderr
from prefect_core.cli.progress import shown_progress
from prefect_core.cli.run import replaced_runners, tell
from prefect_core.errors import describe
from prefect_core.reexecution import Again


def run_again(
    find: Callable[[], Again],
    claim: Callable[[Again], AbstractContextManager[None]],
    runners: Sequence[str],
    *,
    progress: bool,
    as_json: bool,
) -> int:
    """Find a flow run, claim it for this process and run it again; tells what came of it and returns the exit code.

    `runners` are those that replace what flows say, as the option `--task-runner` has them.
    """
    with ExitStack() as around:
        if as_json:
            around.enter_context(stdout_as_stderr())
        again = find()
        subflows = around.enter_context(replaced_runners(runners))
        if progress:
            around.enter_context(shown_progress())
        around.enter_context(claim(again))
        ended = carry_out(again.flow, again.args, again.kwargs)
    tell(ended, subflows, as_json)
    return exit_code_of(ended)


def main() -> None:
    """Run the flow run with the id of the first argument, if it is still in the state that it entered at the moment of the second.

    Then a line of JSON says to the file of the third why that was refused, if it was.
    """
    run, as_of_us, answer = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    # What the flow starts must not hold the file open.
    os.set_inheritable(answer, False)
    refused, code = None, 1
    try:
        with ExitStack() as around:
            try:
                again = reexecution.find(run)
                around.enter_context(reexecution.reopened(again, as_of_us=as_of_us))
            except Exception as error:
                refused = describe(error)
            else:
                code = exit_code_of(carry_out(again.flow, again.args, again.kwargs))
    finally:
        os.write(answer, json.dumps({"refused": refused}).encode())
    sys.exit(code)
