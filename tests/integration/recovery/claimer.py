"""A process that runs crashed runs again as it is told, a line each with id and moment: `python claimer.py`; says which it got."""

from __future__ import annotations

import sys

from prefect_core import reexecution
from prefect_core.cli.execution import carry_out
from prefect_core.errors import NotRunnableAgain


def claim(run: str, as_of_us: int) -> str:
    """Run a run again as a recovery does, and say what came of it."""
    try:
        again = reexecution.find(run)
        with reexecution.reopened(again, as_of_us=as_of_us):
            return carry_out(again.flow, again.args, again.kwargs).state.name
    except NotRunnableAgain:
        return "refused"


if __name__ == "__main__":
    for line in sys.stdin:
        run, as_of_us = line.split()
        print(claim(run, int(as_of_us)), flush=True)
