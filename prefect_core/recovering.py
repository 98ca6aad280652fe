"""Recovery: what lost processes left undone is done. Their hooks are called, and runs whose flow has `on_crash="resume"` are run again.

Each run gets a process of its own, so that one that kills its process takes nothing else along. It is claimed by that process, in the
state in which it was found here: whoever else recovers at the same time, each run is run again by one of them, once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from prefect_core import history
from prefect_core.control.reaping import reap
from prefect_core.errors import TerminationSignal
from prefect_core.history.owed import KEEPS_CRASHING
from prefect_core.owed_hooks import OwedHooks, call_owed, owed_hooks
from prefect_core.reexecution import obstacle
from prefect_core.state_kinds import COMPLETED, PAUSED

if TYPE_CHECKING:
    from prefect_core.history import HistoryStore
    from prefect_core.history.rows import FlowRunRow

_BOOT = "import sys; sys.path[:1] = []; from prefect_core.cli.again import main; main()"
"""No folder is put in front of the path, as in the command `prefect-core`."""
_STANDARD_ERROR = 2
_MOST_BYTES = 65_536

WAITING, RAN, TAKEN, LOST, LEFT_ALONE, IMPOSSIBLE = "waiting", "ran", "taken", "lost", "left alone", "impossible"


class Recovered(NamedTuple):
    """What came of one crashed run."""

    row: FlowRunRow
    """As it is now."""
    what: str
    """"waiting" to be run again; "ran"; "taken" by somebody else; "lost" with its process once more; "left alone"; "impossible"."""
    reason: str | None = None
    """Why it is left alone, or can't be run again."""

    @property
    def is_well(self) -> bool:
        """Whether nothing is left to be done about it."""
        if self.what == RAN:
            return self.row.state_type in {COMPLETED.value, PAUSED.value}
        return self.what not in {IMPOSSIBLE, LOST}


class Report(NamedTuple):
    """What a recovery found, and did."""

    hooks: list[OwedHooks]
    runs: list[Recovered]

    @property
    def is_well(self) -> bool:
        """Whether all hooks could be called, and all runs be run again to a good end."""
        return all(one.obstacle is None for one in self.hooks) and all(one.is_well for one in self.runs)


def outlook() -> Report:
    """Find what a recovery would do, and why it can't do the rest, as far as that is known without loading anything of the user's.

    Runs of processes that are found to have ended are marked first. Raises `HistoryError`.
    """
    with history.reading() as stored:
        reap(stored.control())
        return Report(list(owed_hooks(stored)), [_seen(stored, run) for run in stored.resumable()])


def _seen(stored: HistoryStore, run: int) -> Recovered:
    row = stored.flow_run(run)
    if row.state_name == KEEPS_CRASHING:
        return Recovered(row, LEFT_ALONE, row.state_message)
    reason = obstacle(stored, row)
    return Recovered(row, WAITING) if reason is None else Recovered(row, IMPOSSIBLE, reason)


def recover(workers: int = 1) -> Report:
    """Call the hooks that lost processes owe, and run again what crashed and has `on_crash="resume"`, `workers` runs at once.

    Hooks are called here, runs are run in processes of their own. A signal that ends this ends them too, like one of their own.
    Raises `HistoryError`.
    """
    with history.reading() as stored:
        reap(stored.control())
        called = list(call_owed(stored))
    found = outlook().runs
    with _terminated():
        ended = _run_again([one.row for one in found if one.what == WAITING], workers)
    if any(one.what == LOST for one in ended.values()):
        with history.reading() as stored:
            called += call_owed(stored)
    return Report(called, [ended.get(one.row.key, one) for one in found])


def _run_again(rows: list[FlowRunRow], workers: int) -> dict[int, Recovered]:
    processes = _Processes()
    ended: dict[int, Recovered] = {}
    with ThreadPoolExecutor(workers, "prefect_core-recover") as threads:
        under_way = {threads.submit(processes.run, row) for row in rows}
        try:
            while under_way:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                ended |= {one.row.key: one for one in map(Future.result, done)}
        except BaseException as error:
            threads.shutdown(wait=False, cancel_futures=True)
            processes.end(signal.SIGTERM if isinstance(error, TerminationSignal) else signal.SIGINT)
            raise
    return ended


class _Processes:
    """The processes of the runs that are under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._living: dict[int, subprocess.Popen[bytes]] = {}
        self._is_over = False

    def run(self, row: FlowRunRow) -> Recovered:
        """Run a run again, if it is still as it was, and wait for its end."""
        told, answer = os.pipe()
        try:
            with self._lock:
                if self._is_over:
                    return Recovered(row, WAITING)
                process = self._living[row.key] = start(row, answer)
            process.wait()
            # What it has started may live on, and this process has the other end of the pipe open too.
            os.set_blocking(told, False)
            said = _read(told)
        finally:
            self._living.pop(row.key, None)
            os.close(told)
            os.close(answer)
        return _what_came(row, json.loads(said) if said else None)

    def end(self, number: signal.Signals) -> None:
        """Send all a signal, and start no more."""
        with self._lock:
            self._is_over = True
            for process in self._living.values():
                process.send_signal(number)


def start(row: FlowRunRow, answer: int) -> subprocess.Popen[bytes]:
    """Start a process that runs a flow run again from the state that it is in, and then writes a line of JSON to the file `answer`.

    Its standard output goes to standard error. It belongs to no terminal: whoever starts it passes on what comes from there.
    """
    return subprocess.Popen(
        [sys.executable, "-c", _BOOT, str(row.id), str(row.state_us), str(answer)],
        stdin=subprocess.DEVNULL,
        stdout=_STANDARD_ERROR,
        pass_fds=[answer],
        start_new_session=True,
    )


def _read(file: int) -> bytes:
    try:
        return os.read(file, _MOST_BYTES)
    except BlockingIOError:
        return b""


def _what_came(row: FlowRunRow, told: dict[str, Any] | None) -> Recovered:
    with history.reading() as stored:
        reap(stored.control())
        now = stored.flow_run(row.key)
    if told is None:
        what = IMPOSSIBLE if now.state_us == row.state_us else LOST
        return Recovered(now, what, "The process that was to run it ended without a word.")
    if told["refused"] is None:
        return Recovered(now, RAN)
    return Recovered(now, IMPOSSIBLE if now.state_us == row.state_us else TAKEN, told["refused"])


@contextmanager
def _terminated() -> Iterator[None]:
    """Let SIGTERM raise `TerminationSignal` during the block, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: Any) -> None:
        raise TerminationSignal(number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
