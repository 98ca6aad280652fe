"""A program whose every body, and everybody who is told of an end, writes that down in a side log before anything else happens.

    python -m tests.faults.program SIDE_LOG

One line per fact, synced to disk before the writer goes on: `began ID ATTEMPT` and `ended ID ATTEMPT HOW` of each body, `told ID STATE` by
the hooks of flows, which run once the end of their run is acknowledged, `done` at the end. A flow's body begins once its start is.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from typing import Any

from prefect_core import flow, task
from prefect_core.context import get_run_context

LINGER_SECONDS = 0.4
"""So long, and some commits longer than the recorder gathers, the second half of the program comes after the first."""
_file = -1


def note(*words: object) -> None:
    os.write(_file, (" ".join(map(str, words)) + "\n").encode())
    os.fsync(_file)


def noted(body: Any) -> Any:
    """Let a body write down its beginning and its end."""

    @functools.wraps(body)
    def write_down(*args: Any, **named: Any) -> Any:
        run = get_run_context().run
        note("began", run.id, run.attempt)
        try:
            value = body(*args, **named)
        except BaseException:
            note("ended", run.id, run.attempt, "failed")
            raise
        note("ended", run.id, run.attempt, "completed")
        return value

    return write_down


def tell(_flow: Any, run: Any, state: Any) -> None:
    note("told", run.id, state.name)


def hear(_task: Any, _run: Any, _state: Any) -> None:
    """Be called."""


@task(on_completion=[hear])
@noted
def load(number: int) -> int:
    return number


@task(retries=1, retry_delay_seconds=0.01)
@noted
def flaky(seen: list[int]) -> int:
    seen.append(1)
    if len(seen) == 1:
        raise ValueError("once more")
    return 1


@task
@noted
def fail(number: int) -> None:
    raise ValueError(number)


@task
@noted
def linger() -> None:
    threading.Event().wait(LINGER_SECONDS)


@flow(on_completion=[tell], on_failure=[tell])
@noted
def inner() -> int:
    return sum(load.map(range(2)).result())


@flow(on_completion=[tell], on_failure=[tell])
@noted
def main() -> str:
    half()
    linger()
    half()
    return "done"


def half() -> None:
    """Do a little of everything."""
    loaded = load.map(range(3))
    late = load.submit(loaded[0], wait_for=loaded)
    failed = fail.submit(1)
    load.submit(failed).wait()
    flaky.submit([]).result()
    load(5)
    late.result()
    inner()


if __name__ == "__main__":
    _file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    main()
    note("done")
