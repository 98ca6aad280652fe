"""A program whose Ray loses its head, or the node that the program itself is connected to: `python ray_head_killed.py gcs_server`."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from prefect_core import flow, task
from prefect_core.task_runners import RayTaskRunner
from prefect_runners import ray_watch


@task
def hold() -> None:
    time.sleep(100)


@task
def quick() -> int:
    return 1


def kill(victim: str) -> None:
    """Kill the child of this process whose command line has this part."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_text(encoding="utf-8")
        except OSError:
            continue
        if parent == os.getpid() and victim in command.split("\0", maxsplit=1)[0]:
            os.kill(int(folder.name), signal.SIGKILL)


def small_ray(folder: str) -> dict[str, Any]:
    """Return what a Ray is started with that is to be broken, in a folder of its own."""
    return {
        "num_cpus": 2,
        "object_store_memory": 200 << 20,
        "include_dashboard": False,
        "logging_level": "error",
        "_temp_dir": folder,
    }


def main(victim: str, folder: str) -> None:
    @flow(task_runner=RayTaskRunner(init_kwargs=small_ray(folder)))
    def run() -> None:
        held = hold.submit()
        quick.submit().result()
        kill(victim)
        print("ended:", held.wait(), flush=True)
        print("ended:", quick.submit().wait(30), flush=True)

    print("ended:", run(return_state=True), flush=True)


if __name__ == "__main__":
    folder = tempfile.mkdtemp(prefix="ray-")
    # Sooner than users wait: the campaign waits as long as they do.
    ray_watch._DEAD_SECONDS = 5.0
    try:
        main(sys.argv[1], folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
