"""Bodies that nothing but the end of their process ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from prefect_core import get_run_logger, runtime, task

LATE_SECONDS = 600


def spin() -> None:
    """Run Python code for ever, and heed nothing that is raised in it."""
    while True:
        try:
            while True:
                pass
        except BaseException:  # an ordinary body, that thinks it knows better
            continue


def ignore_sigterm() -> None:
    """Sleep, and ignore what one can be asked to end by."""
    for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(LATE_SECONDS)


def sleep_in_c() -> None:
    """Sleep in C, which holds the interpreter and lets no signal in."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    ctypes.PyDLL(None).sleep(LATE_SECONDS)


async def block_loop() -> None:
    """Block the event loop, so that it cancels nothing."""
    time.sleep(LATE_SECONDS)


DEAF: dict[str, Any] = {
    "spin": spin,
    "ignore_sigterm": ignore_sigterm,
    "sleep_in_c": sleep_in_c,
    "block_loop": block_loop,
}


def child() -> int:
    """Start a process that reads for ever, and return its pid."""
    return subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({LATE_SECONDS})"]).pid


@task(isolation="process")
def process() -> int:
    return os.getpid()


@task(isolation="process")
async def async_process() -> int:
    return os.getpid()


@task(isolation="process")
def surroundings(number: int) -> dict[str, Any]:
    get_run_logger().info("logged inside")
    print("printed inside")
    return {
        "run": runtime.task_run.name,
        "flow": runtime.flow_run.name,
        "inner": process.with_options(isolation=None, name="inner").submit().result(),
        "isolated": process.with_options(name="isolated").submit().result(),
        "pid": os.getpid(),
        "number": number,
    }


@task(isolation="process")
def tell_and_hold(told: Path, deaf: str | None = None) -> None:
    """Tell the pids of this process and of a child of it, and go on for ever."""
    with open(told, "w") as pipe:
        pipe.write(f"{os.getpid()} {child()}")
    if deaf is not None:
        DEAF[deaf]()
    time.sleep(LATE_SECONDS)


@task(isolation="process")
def clean_up(told: Path, cleaned: Path) -> None:
    """Tell the pid, and leave a mark when asked to end."""
    try:
        told.write_text(str(os.getpid()))
        time.sleep(LATE_SECONDS)
    finally:
        cleaned.write_text("up")


@task(isolation="process")
def die_once(mark: Path) -> str:
    if not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"
