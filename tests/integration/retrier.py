"""A process that retries runs as it is told, line by line: `python retrier.py`; says for each whether it got it."""

from __future__ import annotations

import sys

from prefect_core import reexecution
from prefect_core.cli.execution import carry_out
from prefect_core.errors import NotRunnableAgain


def retry(run: str) -> str:
    """Retry a run and say what came of it."""
    try:
        again = reexecution.find(run)
        with reexecution.reopened(again):
            return carry_out(again.flow, again.args, again.kwargs).state.name
    except NotRunnableAgain as refusal:
        return f"refused: {refusal}"


if __name__ == "__main__":
    for line in sys.stdin:
        print(retry(line.strip()), flush=True)
