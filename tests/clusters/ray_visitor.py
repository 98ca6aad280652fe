"""A program that runs flows on the Ray at an address and prints what came of it: `python ray_visitor.py ray://host:port`."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

import numpy as np

from prefect_core import flow, get_run_logger, history, task
from prefect_core.task_runners import RayTaskRunner
from tests.clusters import ray_bodies


@task
def double(number: int) -> int:
    return 2 * number


@task
def make() -> Any:
    return np.ones(1 << 17)


@task
def total(array: Any) -> float:
    return float(array.sum())


@task
def speak() -> None:
    get_run_logger().warning("said there")
    time.sleep(1)
    raise KeyError("word")


@task(timeout_seconds=0.5)
def late() -> None:
    time.sleep(60)


def describe(state: Any) -> str:
    return f"{state.name} {state.message or ''}" if state is not None else "open"


def main(address: str) -> dict[str, Any]:
    told: dict[str, Any] = {}

    @flow(task_runner=RayTaskRunner(address))
    def run() -> None:
        told["double"] = double.submit(3).result(30)
        told["map"] = sum(double.map(list(range(50)), chunk=10).result())
        told["total"] = total.submit(make.submit()).result(30)
        told["speak"] = describe(speak.submit().wait(30))
        told["late"] = describe(late.submit().wait(30))
        told["greedy"] = describe(double.with_options(resources={"cpu": 64}).submit(1).wait(5))
        if told["greedy"] == "open":
            raise RuntimeError("It would be waited for.")

    begun = time.monotonic()
    state = run(return_state=True)
    told["seconds"] = time.monotonic() - begun
    told["state"] = describe(state)
    store = history.open_store()
    if "speak" in told:
        told["logs"] = [log.message for log in store.logs(store.task_run("speak-0").key)][:1]
    told["left"] = ray_bodies.our_threads()
    return told


if __name__ == "__main__":
    logging.getLogger("prefect_core").setLevel(logging.WARNING)
    print("told:", json.dumps(main(sys.argv[1])), flush=True)
