"""Processes that share cached results: each key is computed once, and what a killed one was computing is computed by another."""

from __future__ import annotations

import signal
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.programs import running

PROCESSES, KEYS = 8, 20
TASKS = """
import random
from pathlib import Path
from prefect_core.cache_policies import INPUTS, IsolationLevel
from prefect_core.locking import FileSystemLockManager

folder = Path(os.environ["SHARED"])
policy = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)
storage = None
if os.environ["PLACE"] == "a shared folder":
    policy = policy.configure(key_storage=folder / "keys", lock_manager=FileSystemLockManager(folder / "locks"))
    storage = folder / "values"

def note(word):
    with open(folder / "bodies", "ab", buffering=0) as file:
        file.write(f"{word}\\n".encode())

@task(cache_policy=policy, result_storage=storage)
def square(x):
    note(x)
    return [x * x]
"""
MANY = (
    TASKS
    + """
@flow(task_runner="concurrent:3")
def squares(order):
    return [future.result() for future in square.map(order)]

if os.environ["READY"]:
    say("ready")
    sys.stdin.readline()
order = random.Random(os.getpid()).sample(range(20), 20)
assert squares(order) == [[x * x] for x in order]
say("done")
"""
)
ONE = (
    TASKS
    + """
@task(cache_policy=policy, result_storage=storage)
def slow(x):
    note(os.getpid())
    say("begun")
    if os.environ["HANGS"]:
        time.sleep(60)
    return x

say("ready")
assert flow(lambda: slow.submit(1).result(), name="f")() == 1
say("done")
"""
)
PLACES = pytest.mark.parametrize("place", ["the history", "a shared folder"])


def homes(tmp_path: Path, place: str, count: int) -> list[Path]:
    """Return a home for each process: one for all, or each its own."""
    found = [tmp_path / ("home" if place == "the history" else f"home-{number}") for number in range(count)]
    for home in found:
        home.mkdir(exist_ok=True)
    return found


@PLACES
def test_eight_processes_compute_each_of_twenty_keys_once(tmp_path: Path, place: str) -> None:
    variables = {"SHARED": str(tmp_path), "PLACE": place, "READY": ""}
    with ExitStack() as stack:
        programs = [stack.enter_context(running(home, MANY, **variables)) for home in homes(tmp_path, place, PROCESSES)]
        for program in programs:
            code, _ = program.end(50)
            assert (code, program.lines) == (0, ["done"]), program.errors
    bodies = Counter((tmp_path / "bodies").read_text().split())
    assert bodies == {str(key): 1 for key in range(KEYS)}


@PLACES
def test_when_the_holder_of_a_key_is_killed_another_computes_it_within_seconds(tmp_path: Path, place: str) -> None:
    variables = {"SHARED": str(tmp_path), "PLACE": place}
    first_home, second_home = homes(tmp_path, place, 2)
    with running(first_home, ONE, HANGS="yes", **variables) as first:
        first.wait_for("begun")
        with running(second_home, ONE, HANGS="", **variables) as second:
            second.wait_for("ready")
            assert (tmp_path / "bodies").read_text().split() == [str(first.process.pid)]
            since = time.monotonic()
            first.hit(signal.SIGKILL)
            second.wait_for("begun")
            assert time.monotonic() - since < 10
            code, _ = second.end()
            assert code == 0, second.errors
    assert len((tmp_path / "bodies").read_text().split()) == 2
