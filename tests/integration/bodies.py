"""Tasks that a worker process imports by name, and small objects that behave badly when they are pickled."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from prefect_core import get_run_logger, runtime, tags, task

started_with: list[Any] = []


def start(*arguments: Any) -> None:
    started_with.extend(arguments)


def refuse_to_start() -> None:
    raise ValueError("no licence")


@task
def double(number: int) -> int:
    return 2 * number


@task
def process() -> int:
    return os.getpid()


@task
def arguments_of_start() -> list[Any]:
    return started_with


@task(retries=1)
def die_once(mark: Path, how: str) -> str:
    if mark.exists():
        return "survived"
    mark.touch()
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))
    return "not reached"


@task
def die_behind_children() -> None:
    """End this process when a task and its log record were made in it, and another task waits."""
    get_run_logger().warning("Two of them: %s", double.map([1, 2]).result())
    double.submit(3)
    os.kill(os.getpid(), signal.SIGKILL)


@task
def hold(here: Path, go_on: Path) -> int:
    """Write this process's id to one pipe, then wait for the end of another."""
    with here.open("w") as pipe:
        pipe.write(str(os.getpid()))
    go_on.read_text()
    return os.getpid()


@task(timeout_seconds=0.1)
def hold_deaf(here: Path, go_on: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    hold.fn(here, go_on)


@task(timeout_seconds=0.5)
def hold_inside(here: Path, go_on: Path) -> int:
    held = hold.submit(here, go_on)
    double.submit(1)
    return held.result()


@task
def tell_and_hold(here: Path, go_on: Path) -> None:
    with here.open("w") as pipe:
        pipe.write(f"{os.getpid():8d}")
    go_on.read_text()


@task
def count_down(number: int) -> int:
    return 0 if number == 0 else 1 + count_down.submit(number - 1).result()


@task
def leave_behind(number: int) -> str:
    for index in range(number):
        double.submit(index)
    return "left"


@task
def fail_inside() -> str:
    refuse.submit("inside")
    return "well"


@task
def refuse(reason: str) -> None:
    raise ValueError(reason)


@task(log_prints=True)
def speak() -> None:
    print("printed")
    get_run_logger().warning("warned")
    print("printed again")


@task
def speak_much(lines: int) -> None:
    logger = get_run_logger()
    for index in range(lines):
        logger.info("line %d", index)


@task
def surroundings() -> dict[str, Any]:
    with tags("inner"):
        double(1)
    return {
        "task_run": runtime.task_run.name,
        "flow": runtime.flow_run.flow_name,
        "tags": sorted(runtime.task_run.tags),
        "parameters": runtime.flow_run.parameters,
    }


@task
def run_in_children(start_method: str) -> list[int]:
    import multiprocessing

    with multiprocessing.get_context(start_method).Pool(2) as pool:
        return pool.map(abs, [-1, -2, -3])


@task
def fork_and_run_flow() -> int:
    from prefect_core import flow

    @flow(name="of-the-child")
    def inner() -> int:
        return double.submit(21).result()

    child = os.fork()
    if child == 0:
        os._exit(inner())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@task
def fork_and_exit(code: int) -> int:
    child = os.fork()
    if child == 0:
        sys.exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Counted:
    """Counts how often it is pickled, in this process."""

    pickled = 0

    def __reduce__(self) -> Any:
        type(self).pickled += 1
        return Counted, ()


class RefusesToLeave:
    def __reduce__(self) -> Any:
        raise RuntimeError("never")


class RefusesToArrive:
    def __reduce__(self) -> Any:
        return _raise, ("not here",)


def _raise(reason: str) -> None:
    raise RuntimeError(reason)


class ParticularError(Exception):
    """Can be pickled, but not made again from its `args`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")


@task
def raise_particular() -> None:
    raise ParticularError(7, "closed")


@task
def raise_from_cause() -> None:
    try:
        raise KeyError("first")
    except KeyError as error:
        raise ValueError("second") from error


@task
def give(what: str) -> Any:
    import threading

    return {
        "lock": threading.Lock,
        "generator_in_list": lambda: [iter(range(3)), (one for one in "x")],
        "arrives": RefusesToArrive,
    }[what]()
