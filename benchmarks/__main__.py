"""Runs every benchmark, each in a process of its own, and prints one table: `python -m benchmarks [NAME ...]`."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import import_module

QUESTIONS = (
    "direct_calls",
    "stored_results",
    "killed_at_ninety",
    "submitted",
    "graphs",
    "many_submitted",
    "async_tasks",
    "processes",
    "dask_tasks",
    "scaling",
    "memory",
    "start_up",
    "input_hash",
    "stored_arrays",
    "maps",
    "ray_tasks",
    "pausing",
    "checks",
    "cancelling",
    "slots",
)


def main(arguments: list[str]) -> int:
    if len(arguments) == 2 and arguments[0] == "--one":
        missed = 0
        for figure in import_module(f"benchmarks.{arguments[1]}").measure():
            print(figure, flush=True)
            missed += not figure.is_met
        return 1 if missed else 0
    print(
        f"Python {platform.python_version()}, {platform.machine()}; medians of paired runs, ratio with its least and most.",
        flush=True,
    )
    # Processes that start load this project compiled, as they would what pip installed.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    missed = 0
    for name in arguments or QUESTIONS:
        missed += subprocess.run([sys.executable, "-m", "benchmarks", "--one", name], check=False).returncode != 0
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
