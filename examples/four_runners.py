"""One flow, four subflows, four runners: each quarter of the flights of New York in 2013 is counted somewhere else.

    python examples/four_runners.py [--rows 1000]

    count_year ─┬─ quarter-1   threads of this process
                ├─ quarter-2   processes
                ├─ quarter-3   a Dask cluster, started for this subflow and closed with it
                └─ quarter-4   Ray, likewise

The tasks are the same wherever they run, and so is what is recorded of them. Another choice from outside, by the name of a subflow:

    prefect-core run examples/four_runners.py:count_year --task-runner quarter-3=processes:2

Needs NumPy, Dask and Ray: `pip install "prefect_core[demo,dask,ray]"`.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

import flights_data as data
from flights_data import Columns
from prefect_core import flow, task, unmapped
from prefect_core.task_runners import ConcurrentTaskRunner, DaskTaskRunner, ProcessPoolTaskRunner, RayTaskRunner

ALL_FLIGHTS = 336_776
RUNNERS: list[Any] = [
    ConcurrentTaskRunner(max_workers=4),
    ProcessPoolTaskRunner(max_workers=2),
    DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1}),
    RayTaskRunner(init_kwargs={"num_cpus": 2, "object_store_memory": 200_000_000}),
]


@task
def read_month(month: int, rows: int | None) -> str:
    """Return the flights of one month as CSV text."""
    header, *lines = data.read_flight_lines(data.cached_archive())
    flights = [line for line in lines if line.split(",", 2)[1] == str(month)]
    return "\n".join([header, *flights[:rows]])


@task
def clean_month(text: str, carriers: dict[str, str]) -> Columns:
    """Return its columns; on a cluster they stay with the worker that made them."""
    return data.clean_flights(text, carriers)


@task
def summarise(months: list[Columns]) -> dict[str, float]:
    """Return the number of flights, how many were cancelled, and the mean delay in minutes."""
    delay = np.concatenate([flights["delay"] for flights in months])
    return {
        "flights": len(delay),
        "cancelled": int(np.count_nonzero(np.isnan(delay))),
        "delay": float(np.nanmean(delay)),
    }


@flow
def count_quarter(months: list[int], rows: int | None, carriers: dict[str, str]) -> dict[str, float]:
    """Count the flights of some months."""
    began = time.monotonic()
    cleaned = clean_month.map(read_month.map(months, rows), unmapped(carriers))
    return summarise.submit(cleaned).result() | {"seconds": time.monotonic() - began}


@flow
def count_year(rows: int | None = None) -> str:
    """Count each quarter on a runner of its own, beside each other, and return a table."""
    archive = data.cached_archive()
    carriers = data.read_carriers(archive)
    quarters = [
        count_quarter.with_options(name=f"quarter-{quarter}", task_runner=runner).submit(
            list(range(3 * quarter - 2, 3 * quarter + 1)), rows, carriers
        )
        for quarter, runner in enumerate(RUNNERS, 1)
    ]
    lines = [f"{'quarter':9} {'runner':24} {'flights':>9} {'cancelled':>9} {'mean delay':>10} {'seconds':>8}"]
    counts = [quarter.result() for quarter in quarters]
    for number, (runner, count) in enumerate(zip(RUNNERS, counts, strict=True), 1):
        lines.append(
            f"{number:<9} {type(runner).__name__:24} {count['flights']:>9,} {count['cancelled']:>9,} {count['delay']:>6.1f} min "
            f"{count['seconds']:>8.1f}"
        )
    total = sum(count["flights"] for count in counts)
    if rows is None and total != ALL_FLIGHTS:
        raise ValueError(f"the quarters add up to {total:,} flights and not to {ALL_FLIGHTS:,}")
    return "\n".join([*lines, f"All in all {total:,} flights."])


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the flights of each quarter on another task runner.")
    parser.add_argument("--rows", type=int, help="read at most that many flights of each month (default: all)")
    print(count_year(parser.parse_args().rows))
    print("Which worker did what: prefect-core flow-run ls, and prefect-core flow-run inspect NAME")


# Dask's and multiprocessing's workers import this file.
if __name__ == "__main__":
    main()
