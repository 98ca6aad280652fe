"""Several processes, threads and forks share one history file, and a stranger locks it."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from prefect_core import history
from prefect_core.history.sqlite import connection
from prefect_core.history.sqlite.connection import FILE_NAME
from prefect_core.history.sqlite.driver import sqlite3
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.history.store import RunFilter
from prefect_core.state_kinds import COMPLETED, RUNNING
from tests.contract.history_runs import begin_flow_run, begin_task_run, enter, go_through
from tests.integration.history import program

TRANSITIONS_OF_A_COURSE = 3.4
"""States of one task run of the recording program, on average."""


def record_together(home: Path, processes: int, seconds: float) -> None:
    """Record 200 transitions a second in each of several processes while a reader lists runs."""
    rate = 200 / TRANSITIONS_OF_A_COURSE
    runs = int(rate * seconds)
    command = program.command("--runs", runs, "--every", 20, "--rate", rate, "--checkpoint", 100)
    started = [
        subprocess.Popen(
            command,
            cwd=program.ROOT,
            env=program.environment(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    stop, listed = threading.Event(), list[int]()
    reader = threading.Thread(target=list_runs, args=(home, stop, listed))
    reader.start()
    ended = [process.communicate(timeout=seconds * 3 + 30) for process in started]
    stop.set()
    reader.join()
    outcomes = [
        program.Outcome(process.returncode, out.splitlines(), errors)
        for process, (out, errors) in zip(started, ended, strict=True)
    ]
    assert [outcome.errors for outcome in outcomes] == [""] * processes
    lines = [line for outcome in outcomes for line in outcome.lines]
    program.judge(home, program.Outcome(0, lines, ""), all_acked=True)
    store = SqliteStore(home)
    rows = store.stats().rows
    store.close()
    assert rows["process"] >= processes
    assert (rows["flow_run"], rows["task_run"]) == (processes, processes * runs)
    assert rows["state"] == processes * (3 + sum(5 if index % 5 == 0 else 3 for index in range(runs)))
    assert listed, "the reader failed"
    assert listed == sorted(listed)


def list_runs(home: Path, stop: threading.Event, listed: list[int]) -> None:
    store = SqliteStore(home)
    try:
        while not stop.is_set():
            store.flow_runs(RunFilter(limit=20))
            listed.append(sum(sum(store.counts_by_state(row.key).values()) for row in store.flow_runs()))
    finally:
        store.close()


def test_eight_processes_record_into_one_file(home: Path) -> None:
    record_together(home, processes=8, seconds=3)


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_eight_processes_record_into_one_file_for_a_minute(home: Path) -> None:
    record_together(home, processes=8, seconds=60)


def wait_out_a_lock(home: Path, seconds: float) -> None:
    """Lock the file from outside while a flow goes on; all is there once the lock is gone."""
    recorder = history.current()
    flow_run = begin_flow_run(recorder)
    recorder.flush()
    stranger = sqlite3.connect(home / FILE_NAME, isolation_level=None, check_same_thread=False)
    stranger.execute("BEGIN IMMEDIATE")
    release = threading.Timer(seconds, stranger.rollback)
    release.start()
    for index in range(500):
        run = begin_task_run(recorder, flow_run, "load", index)
        go_through(recorder, run, [RUNNING, COMPLETED])
    assert release.is_alive(), "user code was held up by the lock"
    recorder.flush()
    release.join()
    stranger.close()
    store = history.open_store()
    assert store.counts_by_state(flow_run.key) == {"Completed": 500}
    assert store.check() == []
    store.close()


def test_a_lock_of_somebody_else_is_waited_for(home: Path) -> None:
    wait_out_a_lock(home, 1.5)


@pytest.mark.faults
@pytest.mark.timeout(120)
def test_a_lock_of_fifteen_seconds_is_waited_for(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    wait_out_a_lock(home, 15)
    assert "still waiting" in caplog.text


def test_a_history_that_is_locked_can_be_opened(home: Path) -> None:
    SqliteStore(home).close()
    stranger = sqlite3.connect(home / FILE_NAME, isolation_level=None, check_same_thread=False)
    stranger.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.7, stranger.rollback)
    release.start()
    store = SqliteStore(home)
    assert store.next_key() == 1 << 32
    store.close()
    stranger.close()


def test_a_reader_that_stays_in_its_transaction_does_not_block_the_writer(home: Path) -> None:
    recorder = history.current()
    flow_run = begin_flow_run(recorder)
    recorder.flush()
    reader = sqlite3.connect(home / FILE_NAME, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM task_run").fetchone() == (0,)
    for index in range(2000):
        go_through(recorder, begin_task_run(recorder, flow_run, "load", index), [RUNNING, COMPLETED])
    recorder.flush()
    assert reader.execute("SELECT count(*) FROM task_run").fetchone() == (0,)
    reader.close()


def record_in_child(key: int) -> None:
    """Record in a child process, whatever its parent had open, and leave the rest to the end of the process."""
    recorder = history.current()
    run = begin_task_run(recorder, None, "child")
    go_through(recorder, run, [RUNNING, COMPLETED])
    assert run.key >> 32 != key >> 32


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_child_process_records_by_itself(home: Path, method: str) -> None:
    recorder = history.current()
    flow_run = begin_flow_run(recorder)
    enter(recorder, flow_run, RUNNING)
    processes = [
        multiprocessing.get_context(method).Process(target=record_in_child, args=(flow_run.key,)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    # The parent goes on while its children run and end.
    for index in range(300):
        go_through(recorder, begin_task_run(recorder, flow_run, "load", index), [RUNNING, COMPLETED])
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    enter(recorder, flow_run, COMPLETED)
    recorder.flush()
    store = history.open_store()
    assert store.check() == []
    assert len(store.task_runs(RunFilter(name="child"))) == 3
    assert store.counts_by_state(flow_run.key) == {"Completed": 300}
    assert store.stats().rows["process"] == 4
    store.close()


FORK_AND_EXIT = """
import os, sys
from tests.contract.history_runs import begin_task_run, enter, go_through
from prefect_core import history
from prefect_core.state_kinds import COMPLETED, RUNNING
recorder = history.current()
run = begin_task_run(recorder, None, "parent")
recorder.flush()
reader = history.open_store()
reader.task_runs()
pid = os.fork()
if pid == 0:
    if sys.argv[1] == "records":
        go_through(history.current(), begin_task_run(history.current(), None, "child"), [RUNNING, COMPLETED])
    sys.exit(0)
_, status = os.waitpid(pid, 0)
go_through(recorder, run, [RUNNING, COMPLETED])
recorder.flush()
print(status, [row.state_name for row in reader.task_runs()], reader.check())
"""


@pytest.mark.parametrize(("does", "seen"), [("records", "['Completed', 'Completed']"), ("nothing", "['Completed']")])
def test_a_forked_child_that_ends_like_a_program_disturbs_nothing(home: Path, does: str, seen: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK_AND_EXIT, does],
        cwd=program.ROOT,
        env=program.environment(home),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == (f"0 {seen} []\n", "")


def test_a_checkpoint_gives_way_to_a_transaction_of_somebody_else(home: Path) -> None:
    store = SqliteStore(home)
    first = store.next_key()
    store._connections._pages_added = connection.CHECKPOINT_PAGES
    stranger = sqlite3.connect(home / FILE_NAME, isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    store.checkpoint()
    assert (home / FILE_NAME).stat().st_size < store.stats().wal_bytes
    stranger.rollback()
    store._connections._pages_added = connection.CHECKPOINT_PAGES
    store.checkpoint()
    assert store._connections._pages_added == 0
    assert store.next_key() == first + (1 << 32)
    stranger.close()
    store.close()


def test_what_was_recorded_last_is_written_when_the_program_ends(home: Path) -> None:
    code = (
        "from tests.contract.history_runs import begin_task_run; from prefect_core import history; "
        "begin_task_run(history.current(), None)"
    )
    subprocess.run(
        [sys.executable, "-c", code], cwd=program.ROOT, env=program.environment(home), timeout=30, check=True
    )
    store = history.open_store()
    assert [row.state_name for row in store.task_runs()] == ["Pending"]
    store.close()
