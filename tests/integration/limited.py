"""Programs that ask for slots; run as `python limited.py WHAT LOG ...`. LOG gets a line with each thing that happened, in order."""

from __future__ import annotations

import os
import sys
from typing import Any

from prefect_core import flow, task
from prefect_core.concurrency import concurrency


def log(path: str, line: str) -> None:
    """Append a line at once, so that the order of lines is that of what happened."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def crowd(path: str, times: str) -> None:
    """Go in and out again and again."""
    for _ in range(int(times)):
        with concurrency("three"):
            log(path, "in")
            log(path, "out")


def hold(path: str, name: str, priority: str = "0") -> None:
    """Go in, tell, and stay until there is something to read."""
    with concurrency("one", priority=int(priority)):
        log(path, name)
        print("held", flush=True)
        sys.stdin.readline()


def run(path: str, name: str, priority: str = "0") -> None:
    """Run a task with the tag, which tells, and stays until there is something to read."""

    @task(tags=["one"], priority=int(priority))
    def stays() -> None:
        log(path, name)
        print("held", flush=True)
        sys.stdin.readline()

    flow(lambda: stays.submit().result())()


@task
def goes_in(path: str, name: str = "three") -> None:
    """For worker processes."""
    with concurrency(name, timeout_seconds=60):
        log(path, "in")
        log(path, "out")


@task(tags=["one"])
def tagged(path: str) -> None:
    """For worker processes, with a slot that the flow takes."""
    log(path, "in")
    log(path, "out")


@task(tags=["one"])
def leaf(path: str) -> int:
    """A task of the same tag as the one around it."""
    log(path, "in")
    log(path, "out")
    return 1


@task(tags=["one"])
def parent(path: str) -> int:
    """Calls and submits tasks of its own tag, in a worker process."""
    return leaf(path) + sum(leaf.map([path] * 3).result())


if __name__ == "__main__":
    what: Any = {"crowd": crowd, "hold": hold, "run": run}[sys.argv[1]]
    what(*sys.argv[2:])
