"""Two hundred subflows at once, in another order in each execution: each has a number, and equal calls inside that must not be mixed up."""

from __future__ import annotations

import json
import random
import time
from contextvars import ContextVar
from functools import partial
from pathlib import Path

import anyio

from prefect_core import flow, reexecution, settings, task
from prefect_core.crash_points import crash_point
from prefect_core.entrypoints import load_flow
from tests.faults.random_programs import is_complete, note, roots

HERE = "tests.faults.crowd"
_number: ContextVar[int] = ContextVar("number")


@task(persist_result=True)
async def whose() -> int:
    """Return the number of the subflow around, which is no argument of this: nothing but its parent tells it from others."""
    note("began", f"whose-{_number.get()}")
    crash_point("crowd.body")
    await anyio.sleep(0)
    return _number.get()


@task(persist_result=True)
def double(number: int) -> str:
    note("began", f"double-{number}")
    crash_point("crowd.body")
    return f"{number} twice is {number * 2}"


@flow(persist_result=True)
async def part(number: int) -> list[object]:
    note("began", f"part-{number}")
    _number.set(number)
    found = await whose()
    note("acked", f"whose-{number}")
    told = await double.submit(number)
    note("acked", f"double-{number}")
    crash_point("crowd.body")
    return [found, told]


def shuffled(size: int) -> list[int]:
    numbers = list(range(size))
    random.Random(time.monotonic_ns()).shuffle(numbers)
    return numbers


@flow
async def gathered(size: int) -> dict[int, list[object]]:
    note("epoch")
    found: dict[int, list[object]] = {}

    async def one(number: int) -> None:
        found[number] = await part(number)
        note("acked", f"part-{number}")

    async with anyio.create_task_group() as group:
        for number in shuffled(size):
            group.start_soon(one, number)
    note("result", json.dumps([found[number] for number in range(size)]))
    return found


@flow
async def submitted(size: int) -> dict[int, list[object]]:
    note("epoch")
    futures = {number: part.submit(number) for number in shuffled(size)}
    found: dict[int, list[object]] = {}
    for number, future in futures.items():
        found[number] = await future
        note("acked", f"part-{number}")
    note("result", json.dumps([found[number] for number in range(size)]))
    return found


def execute(name: str, size: int, backend: str) -> None:
    """Run the flow of this name, or go on with the run of it that is in the history."""
    if (settings.current().home / "history.db").exists() and (runs := roots()):
        if is_complete(runs[0]):
            return
        again = reexecution.find(runs[0])
        with reexecution.reopened(again):
            anyio.run(partial(again.flow, *again.args, **again.kwargs), backend=backend)
    else:
        anyio.run(load_flow(f"{Path(__file__).absolute()}:{name}"), size, backend=backend)
