"""The flow that the model drives: bodies that say when they begin and then wait to be told how to go on.

    story ─┬─ step a, submitted
           ├─ step b, submitted
           ├─ inner ── step c, called
           └─ story again, when all of them have ended

A body says what it is to the socket in MODEL_STAGE (see `stage`) and gets one letter: to return, or to raise. A connection that is closed
stands for the end of its process.
"""

from __future__ import annotations

import json
import os
import socket

from prefect_core import clock, context, flow, history, task
from prefect_core.context import TaskRunContext

STAGE = "MODEL_STAGE"
RETURN, RAISE = b"r", b"x"
TIMEOUT_SECONDS = 0.05


class ProcessEnded(BaseException):
    """What a body gets in place of the end of its process, where that is only played."""


def stand_before(name: str) -> None:
    """Say that a body is at a place, and wait to be told how to go on."""
    around = context.current()
    assert around is not None
    run = around.task_run if isinstance(around, TaskRunContext) else around.flow_run
    told = {
        "name": name,
        "run": run.key,
        "attempt": run.attempt,
        "process": history.current().process,
        "at_us": clock.now_us(),
    }
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(os.environ[STAGE])
            line.sendall(json.dumps(told).encode() + b"\n")
            verdict = line.recv(1)
        except OSError:
            verdict = b""
    if not verdict:
        raise ProcessEnded(name)
    if verdict == RAISE:
        raise ValueError(name)


@task
def step(name: str) -> str:
    stand_before(name)
    return name


@flow
def inner(plan: dict) -> None:
    stand_before("inner")
    _step(plan, "c")("c", return_state=True)


@flow
def story(plan: dict) -> None:
    stand_before("story")
    submitted = [_step(plan, name).submit(name) for name in "ab"]
    inner(plan, return_state=True)
    for future in submitted:
        future.wait()
    stand_before("end")


def _step(plan: dict, name: str):
    """Return the task as the plan wants it: `retries`, whether it is `stored`, and which step is `late`."""
    timeout_seconds = TIMEOUT_SECONDS if plan["late"] == name else None
    return step.with_options(
        retries=plan["retries"],
        timeout_seconds=timeout_seconds,
        persist_result=plan["stored"],
    )
