"""Programs that are killed while their tasks run on a cluster that they borrow, and what somebody finds who looks then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from prefect_core.history.store import RunFilter
from prefect_core.testing.contract.journal import Journal
from tests.clusters.existing import not_of_ray
from tests.integration.programs import ends, store_of
from tests.integration.retrying import COMMAND

TASKS = 6
"""So many the flow submits, of which two run at once."""
_FOUND_WITHIN_SECONDS = 5.0
_READY_SECONDS = 50.0
_PROGRAM = """
from pathlib import Path
from prefect_core import flow
from prefect_core.task_runners import DaskTaskRunner, RayTaskRunner
from prefect_core.testing.contract.journal import Journal
from tests.clusters.ray_bodies import hold

@flow(task_runner={runner})
def run():
    for future in [hold.submit(Journal(Path({journal!r}))) for _ in range({tasks})]:
        future.result()

if __name__ == "__main__":
    run()
"""


def kill_flow(runner: str, folder: Path, home: Path) -> tuple[Journal, list[int]]:
    """Run a flow, and kill its process with -9 while two bodies run; returns what bodies note, and the processes of these.

    Somebody who looks then finds all runs of it Crashed.
    """
    folder.mkdir()
    journal = Journal(folder / "journal")
    program = folder / "program.py"
    program.write_text(_PROGRAM.format(runner=runner, journal=str(journal.path), tasks=TASKS))
    environment = {**not_of_ray(), "RAY_AUTH_MODE": "disabled", "PYTHONPATH": os.pathsep.join(sys.path)}
    before, _ = ends(home)
    with (folder / "errors").open("wb") as errors:
        started = subprocess.Popen([sys.executable, program], stdout=errors, stderr=errors, env=environment)
    try:
        _wait_until_two_run(started, journal, home, folder / "errors")
    finally:
        started.kill()
        started.wait()
    _check_who_looks(home, before.total() + 1)
    return journal, [int(line) for line in journal.lines()]


def _wait_until_two_run(started: subprocess.Popen[bytes], journal: Journal, home: Path, errors: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    running = RunFilter(state_names=["Running"])
    while True:
        with store_of(home) as store:
            if len(journal.lines()) == len(store.task_runs(running)) == 2:
                return
        assert started.poll() is None, errors.read_text()
        assert time.monotonic() < deadline, errors.read_text()
        time.sleep(0.02)


def _check_who_looks(home: Path, flows: int) -> None:
    killed_at = time.monotonic()
    listed = subprocess.run([COMMAND, "flow-run", "ls", "--json"], capture_output=True, timeout=50, check=True)
    assert time.monotonic() - killed_at < _FOUND_WITHIN_SECONDS
    assert Counter(row["state"]["name"] for row in json.loads(listed.stdout)) == {"Crashed": flows}
    _, tasks = ends(home)
    assert Counter(state for _, state, _ in tasks.elements()) == {"Crashed": flows * TASKS}
