"""Programs with runs under way, in real processes that are killed, stopped, or hidden in a pid namespace of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect_core.history.leases import LeaseRow
from prefect_core.history.process import monotonic_us
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.history.store import RunFilter

WORK = """
import ctypes, os, signal, sys, threading
from prefect_core import flow, task
from prefect_core.input import receive_input
from prefect_core.runtime import flow_run

def wait(word="waiting"):
    # One write: lines of two threads never mix.
    os.write(1, f"{word} {os.getpid()}\\n".encode())
    for _ in range(3000):
        if os.path.exists("go"):
            break
        threading.Event().wait(0.02)

@task
def hold(x):
    wait()
    return x

@task
def quick(x):
    return x

@flow
def inner():
    return hold.submit(1).result()

@flow
def outer():
    quick(0)
    left = quick.submit(1, wait_for=[hold.submit(2)])
    inner()
    return left.result()

@flow
def asks():
    hold.submit(1)
    return receive_input(str, timeout=600).next()

@task
def ask(flow_run):
    return receive_input(int, None, flow_run_id=flow_run, key_prefix="number").next()

@flow
def asks_in_a_task():
    hold.submit(1)
    return ask(str(flow_run.id))

@task(name="hold")
def grip():
    fifo = os.open("fifo", os.O_RDWR)
    wait()
    # A function called by PyDLL holds the interpreter: no other thread of the process runs until somebody writes a byte.
    ctypes.PyDLL(None).read(fifo, ctypes.create_string_buffer(1), 1)

@flow
def gripping():
    grip.submit().wait()

@flow
def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        hold(1)
        os.remove("go")

def main():
    # Two names: the first for a child made by fork.
    globals()[sys.argv[1 if len(sys.argv) == 2 or not os.fork() else 2]]()

if __name__ == "__main__":
    main()
"""
SHORT = {
    "PREFECT_CORE_LEASE_SECONDS": "3",
    "PREFECT_CORE_LEASE_BEAT_SECONDS": "0.1",
    "PREFECT_CORE_INTERRUPT_GRACE_SECONDS": "0.2",
}
SHORTER = {**SHORT, "PREFECT_CORE_LEASE_SECONDS": "0.5"}
HIDDEN = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def can_hide() -> bool:
    """Tell whether this user may make pid namespaces."""
    try:
        return subprocess.run([*HIDDEN, "true"], capture_output=True, timeout=30, check=False).returncode == 0
    except FileNotFoundError:
        return False


class Owners:
    """A folder with the program, and the history that it writes."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home
        self.pids: set[int] = set()
        """Processes that said that they wait."""
        (folder / "work.py").write_text(WORK)

    @contextmanager
    def started(self, flow: str, *around: str, lines: int = 1, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Run a flow, by way of another command if one is given, until it has said so often that it waits; it is killed in the end."""
        process = subprocess.Popen(
            [*around, sys.executable, "work.py", *flow.split()],
            cwd=self.folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            for _ in range(lines):
                said = process.stdout.readline().split()
                assert said[0] == "waiting"
                self.pids.add(int(said[1]))
            self.until_recorded(lines)
            yield process
        finally:
            process.kill()
            process.communicate()

    def until_recorded(self, waiting: int) -> None:
        """Wait until the history knows of so many bodies that wait, and of the flow runs around them."""
        with self.history() as store:
            while True:
                rows = store.task_runs(RunFilter(name="hold", state_names=["Running"]))
                around = {store.flow_run(row.flow_run).state_name for row in rows if row.flow_run is not None}
                if len(rows) >= waiting and around == {"Running"}:
                    return

    @contextmanager
    def history(self) -> Iterator[SqliteStore]:
        """Open the history, looking at nothing."""
        store = SqliteStore(self.home)
        try:
            yield store
        finally:
            store.close()

    def states(self, flow: str) -> list[str]:
        """Return the states of the newest run of a flow."""
        return self.all_states(flow)[0]

    def all_states(self, flow: str) -> list[list[str]]:
        """Return the states of each run of a flow, the newest first."""
        with self.history() as store:
            rows = [row for row in store.flow_runs() if row.flow_name == flow]
            return [[state.name for state in store.states(row.key)] for row in rows]

    def lease(self, store: SqliteStore) -> LeaseRow:
        """Return the only lease that nobody took."""
        [lease] = store.control().leases()
        return lease

    def go(self) -> None:
        """Let what waits go on."""
        (self.folder / "go").touch()


def until_expired(store: SqliteStore, lease: LeaseRow) -> None:
    """Wait until a lease, which nobody renews any more, has expired."""
    while True:
        now = store.control().lease(lease.number)
        assert now is not None
        if now.expires_us <= monotonic_us():
            return


def stop(process: subprocess.Popen[str]) -> None:
    """Stop a process, and wait until it has stopped."""
    process.send_signal(signal.SIGSTOP)
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        pass
