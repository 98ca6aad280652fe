"""The program on a Ray of its own whose head or node is killed: `python ray_killed_under_program.py gcs_server 20 JOURNAL`.

Writes how the run ended, and how many seconds after the kill.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

from prefect_core.task_runners import RayTaskRunner
from prefect_core.testing.contract.journal import Journal
from tests.clusters.faults.killed_program import program
from tests.clusters.faults.killing import wait_for_bodies
from tests.clusters.ray_head_killed import kill, small_ray


def main(victim: str, moment: int, journal: Journal, folder: str) -> None:
    killed: list[float] = []

    def kill_it() -> None:
        wait_for_bodies(journal, moment)
        killed.append(time.monotonic())
        kill(victim)

    threading.Thread(target=kill_it).start()
    state = program(RayTaskRunner(init_kwargs=small_ray(folder)))(journal, return_state=True)
    print(f"ended: {time.monotonic() - killed[0]:.1f} {state.name} {state.message}", flush=True)


if __name__ == "__main__":
    folder = tempfile.mkdtemp(prefix="ray-")
    try:
        main(sys.argv[1], int(sys.argv[2]), Journal(Path(sys.argv[3])), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
