"""What does a run of 100,000 stored tasks cost that is killed at 90 % and retried? No body whose result was stored may run again, and what
the retry takes over is compared with a bare thread pool.

The run, and its retry by the command line, are processes of their own; the kill comes from outside, when the history holds enough. The
flow fails in the end, so that it can be run again and again once all is stored, which is what is timed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from benchmarks.measure import Figure, throwaway_home
from benchmarks.stored_results import taken_over
from prefect_core import flow, history, task

os.environ.setdefault("PREFECT_CORE_LOGGING_LEVEL", "CRITICAL")
COUNT = 100_000
KILL_AT = COUNT * 9 // 10
BODIES = "BODIES"
"""Names, in the environment, the file that gets a byte for each body that runs."""
_bodies = os.open(os.environ.get(BODIES, os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


class EndOfAttempt(Exception):
    """Ends each attempt."""


@task(persist_result=True)
def small(number: int) -> int:
    os.write(_bodies, b".")
    return number


@flow
def many() -> None:
    futures = [small.submit(number) for number in range(COUNT)]
    assert sum(future.result() for future in futures) == sum(range(COUNT))
    raise EndOfAttempt


def measure() -> list[Figure]:
    with throwaway_home() as home:
        run, stored = _kill(home)
        bodies, seconds = _retry(home, run)
        taken = taken_over(f"{COUNT:,} stored results of it taken over", run, COUNT, repeats=3)
    left, whole = COUNT - stored, seconds * 1e6 / COUNT
    ran_again, slower = bodies / left, whole / taken.bare
    return [
        Figure(
            f"bodies that a retry runs, {stored:,} stored; bare: the rest",
            bodies,
            left,
            ran_again,
            (ran_again,) * 2,
            1,
            "bodies",
        ),
        Figure("the whole command `prefect-core flow-run retry`", whole, taken.bare, slower, (slower,) * 2, None),
        taken,
    ]


def _kill(home: Path) -> tuple[str, int]:
    """Run the flow until enough is stored; return its run and how many results are stored then."""
    process = _start(home / "first", sys.executable, "-c", "from benchmarks import killed_at_ninety as it; it.many()")
    with closing(history.open_store()) as store:
        try:
            while store.result_stats().rows < KILL_AT:
                assert process.poll() is None, "the run ended before it was killed"
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        return str(store.flow_runs()[0].id), store.result_stats().rows


def _retry(home: Path, run: str) -> tuple[int, float]:
    """Retry the run by the command line; return how many bodies ran, and the seconds that the whole command took."""
    begun = time.perf_counter()
    command = Path(sys.executable).parent / "prefect-core"
    _start(home / "second", str(command), "flow-run", "retry", run).wait()
    seconds = time.perf_counter() - begun
    with history.reading() as store:
        row = store.flow_run(run)
        assert EndOfAttempt.__name__ in (row.state_message or ""), row
        assert store.counts_by_state(row.key) == {"Completed": COUNT}
        assert store.result_stats().rows == COUNT
    return (home / "second").stat().st_size, seconds


def _start(bodies: Path, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, env={**os.environ, BODIES: str(bodies)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
