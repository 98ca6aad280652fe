"""Tasks that workers of a Dask cluster import by name."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from prefect_core import get_run_logger, task
from prefect_core.testing.contract.journal import Journal


@task
def double(number: int) -> int:
    return 2 * number


@task
def process() -> int:
    return os.getpid()


@task
def hold(journal: Journal, name: str = "held") -> str:
    """Note that it runs, with its process, and wait until somebody lets it go."""
    journal.note(f"{name} {os.getpid()}")
    journal.wait_for("go")
    journal.note(f"{name} went on")
    return name


@task
def die(journal: Journal) -> int:
    journal.note("died")
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


@task
def die_once(journal: Journal) -> int:
    journal.note("body")
    if journal.lines().count("body") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@task
def make(journal: Journal, megabytes: int) -> Any:
    """Make an array, and note where."""
    import numpy as np

    journal.note(f"made {os.getpid()}")
    return np.full(megabytes << 17, 1.0)


@task
def ones(megabytes: int) -> Any:
    import numpy as np

    return np.full(megabytes << 17, 1.0)


@task
def total(array: Any) -> float:
    return float(array.sum())


@task(log_prints=True)
def speak(word: str) -> None:
    get_run_logger().info("logged %s", word)
    print("printed", word)
    get_run_logger().warning("warned %s", word)


@task
def pause(seconds: float) -> None:
    time.sleep(seconds)
