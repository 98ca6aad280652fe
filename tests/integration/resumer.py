"""A process that resumes suspended runs as it is told, line by line: `python resumer.py`; says for each whether it got it."""

from __future__ import annotations

import sys

from prefect_core import history, resuming
from prefect_core.cli.execution import carry_out
from prefect_core.errors import NotPausedError, NotRunnableAgain


def resume(run: str) -> str:
    """Resume a run and say what came of it."""
    try:
        with history.reading() as stored:
            found = resuming.Found(stored, run)
        again, given = resuming.prepared(found, None)
        with resuming.resumed(again, given):
            return carry_out(again.flow, again.args, again.kwargs).state.name
    except (NotPausedError, NotRunnableAgain) as refusal:
        return f"refused: {refusal}"


if __name__ == "__main__":
    for line in sys.stdin:
        print(resume(line.strip()), flush=True)
