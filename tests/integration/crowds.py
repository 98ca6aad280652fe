"""Flows of very many tasks; as a program it runs one and prints its time and the most memory it took.

python -m tests.integration.crowds NAME COUNT
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import threading
import time
from typing import Any

import anyio

from prefect_core import flow, task


@task
def one(number: int) -> int:
    return number


def wait_for_all(count: int) -> int:
    """Hold back `count` tasks behind one, so that all their futures are open at once, and wait for them."""
    gate = threading.Event()
    first = task(gate.wait, name="gate")

    @flow
    def main() -> int:
        behind = [first.submit()]
        futures = [one.submit(number, wait_for=behind) for number in range(count)]
        assert not any(future.done() for future in futures)
        gate.set()
        return sum(future.result() >= 0 for future in futures)

    return main()


def cancel_all(count: int) -> float:
    """Hold back `count` tasks and fail; returns the seconds from the failure to the flow's end."""
    gate = threading.Event()
    first = task(gate.wait, name="gate")
    failed_at = 0.0

    @flow
    def main() -> None:
        nonlocal failed_at
        behind = [first.submit()]
        futures = [one.submit(number, wait_for=behind) for number in range(count)]
        futures[-1].add_done_callback(lambda _: gate.set())
        failed_at = time.perf_counter()
        raise ValueError("enough")

    assert main(return_state=True).is_failed()
    return time.perf_counter() - failed_at


def _meeting(count: int) -> Any:
    arrived = 0
    everybody_is_here: Any = None

    @task
    async def arrive() -> None:
        nonlocal arrived, everybody_is_here
        if everybody_is_here is None:
            everybody_is_here = anyio.Event()
        arrived += 1
        if arrived == count:
            everybody_is_here.set()
        await everybody_is_here.wait()

    return arrive


async def meet(count: int) -> int:
    """Run async bodies that all wait for each other."""
    arrive = _meeting(count)

    @flow
    async def main() -> int:
        futures = [arrive.submit() for _ in range(count)]
        return len([await future for future in futures])

    return await main()


def meet_from_def(count: int) -> int:
    """Do the same from a def flow."""
    arrive = _meeting(count)

    @flow
    def main() -> int:
        futures = [arrive.submit() for _ in range(count)]
        return len([future.wait() for future in futures])

    return main()


def kept_bytes(count: int) -> float:
    """Return the memory that a finished task keeps while its future is held, in bytes."""

    @flow
    def main() -> float:
        for future in [one.submit(number) for number in range(2000)]:
            future.wait()
        before = _resident_bytes()
        futures = [one.submit(number) for number in range(count)]
        for future in futures:
            future.wait()
        return (_resident_bytes() - before) / count

    return main()


def _resident_bytes() -> int:
    from prefect_core import history

    history.current().flush()
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    name, count = sys.argv[1], int(sys.argv[2])
    began = time.perf_counter()
    result = globals()[name](count)
    seconds = time.perf_counter() - began
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"result": result, "seconds": round(seconds, 2), "megabytes": round(megabytes)}))


if __name__ == "__main__":
    main()
