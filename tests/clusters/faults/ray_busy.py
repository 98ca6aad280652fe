"""A program whose threads keep the interpreter busy while chunks bring large values, on a Ray of its own: `python ray_busy.py RUNS`."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Any

import ray

from prefect_core import flow, task

BYTES = 200_000
ITEMS = 24


@task
def make(_: int) -> bytes:
    return bytes(BYTES)


@task
def size(value: bytes) -> int:
    return len(value)


def compute(until: float = float("inf")) -> None:
    while time.monotonic() < until:
        sum(range(5000))


@flow(task_runner="ray")
def large() -> list[Any]:
    sizes = [size.submit(value) for value in make.map(range(ITEMS), chunk=3)]
    compute(time.monotonic() + 0.15)
    return [one.result() for one in sizes]


def main(runs: int) -> None:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    for _ in range(2):
        threading.Thread(target=compute, daemon=True).start()
    for _ in range(runs):
        assert large() == [BYTES] * ITEMS
    print("all there")


if __name__ == "__main__":
    main(int(sys.argv[1]))
