"""How the recorder batches, waits, holds back and gives up."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prefect_core import clock, crash_points, history
from prefect_core.errors import HistoryError
from prefect_core.history.batch import Batch
from prefect_core.history.memory import MemoryStore
from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.state_kinds import COMPLETED, FAILED, RUNNING
from tests.contract.history_runs import begin_flow_run, begin_task_run, enter, go_through


class BrokenStore(MemoryStore):
    """Fails to write for as long as it is told to."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures
        self.reopened = 0
        self.gave_up = threading.Event()
        self.batches: list[int] = []

    def write(self, batch: Batch) -> None:
        if self.failures:
            self.failures -= 1
            raise HistoryError("The disk is full.")
        self.batches.append(len(batch))
        super().write(batch)

    def write_at_once(self, batch: Batch) -> None:
        raise HistoryError("Somebody else writes.")

    def reopen(self) -> None:
        self.reopened += 1
        self.gave_up.set()


class ForgetfulStore(SqliteStore):
    """Writes each batch, and then says that it failed, as a connection does that breaks between commit and answer."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.wrote: list[Batch] = []

    def write(self, batch: Batch) -> None:
        super().write(batch)
        if batch not in self.wrote:
            self.wrote.append(batch)
            raise HistoryError("The connection broke.")

    def write_at_once(self, batch: Batch) -> None:
        self.write(batch)


class StuckStore(MemoryStore):
    """Stays in its write until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go_on = threading.Event(), threading.Event()

    def write(self, batch: Batch) -> None:
        self.entered.set()
        self.go_on.wait(30)
        super().write(batch)


class LedStore(MemoryStore):
    """Notes which threads write, and is interrupted in the first write of one that leads if it is told to."""

    def __init__(self, interrupt: type[BaseException] | None = None) -> None:
        super().__init__()
        self.interrupt = interrupt
        self.writers: list[str] = []

    def write(self, batch: Batch) -> None:
        self.writers.append(threading.current_thread().name)
        super().write(batch)

    def write_at_once(self, batch: Batch) -> None:
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            raise interrupt
        self.write(batch)


@pytest.fixture
def closing() -> Iterator[Callable[[StoreRecorder], StoreRecorder]]:
    made: list[StoreRecorder] = []

    def remember(recorder: StoreRecorder) -> StoreRecorder:
        made.append(recorder)
        return recorder

    yield remember
    for recorder in made:
        recorder.close()


Closing = Callable[[StoreRecorder], StoreRecorder]


def test_who_flushes_writes_if_nobody_else_does(closing: Closing) -> None:
    store = LedStore()
    recorder = closing(StoreRecorder(store))
    run = begin_task_run(recorder, None)
    recorder.flush()
    assert store.writers == [threading.current_thread().name]
    done = recorder.durable()
    enter(recorder, run, RUNNING)
    done.hasten()
    assert done.done()
    assert [state.type for state in store.states(run.key)] == ["PENDING", "RUNNING"]


def test_what_its_interruption_leaves_is_written_by_the_writer(closing: Closing) -> None:
    store = LedStore(KeyboardInterrupt)
    recorder = closing(StoreRecorder(store))
    run = begin_task_run(recorder, None)
    with pytest.raises(KeyboardInterrupt):
        recorder.flush()
    enter(recorder, run, RUNNING)
    settled = threading.Event()
    recorder.durable().add_done_callback(lambda _: settled.set())
    assert settled.wait(10)
    assert [state.type for state in store.states(run.key)] == ["PENDING", "RUNNING"]


def test_many_threads_that_flush_lose_nothing(closing: Closing) -> None:
    store = LedStore()
    recorder = closing(StoreRecorder(store))
    seen: list[bool] = []

    def work() -> None:
        for _ in range(50):
            run = begin_task_run(recorder, None)
            recorder.flush()
            seen.append(store.task_run(run.key).state_name == "Pending")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 400


def test_a_write_that_fails_is_tried_again_with_a_new_connection(closing: Closing) -> None:
    store = BrokenStore(failures=2)
    recorder = closing(StoreRecorder(store))
    run = begin_task_run(recorder, None)
    recorder.flush()
    assert store.reopened == 2
    assert store.task_run(run.key).state_name == "Pending"
    assert store.stats().incomplete_since_us is None


def test_what_cannot_be_written_is_given_up_and_told(closing: Closing, caplog: pytest.LogCaptureFixture) -> None:
    store = BrokenStore(failures=2)
    recorder = closing(StoreRecorder(store, retry_seconds=0))
    lost = begin_task_run(recorder, None)
    with pytest.raises(HistoryError, match="disk is full"):
        recorder.flush()
    enter(recorder, lost, RUNNING)
    with pytest.raises(HistoryError, match="disk is full"):
        recorder.flush()
    assert [record.levelno for record in caplog.records if record.name == "prefect_core.history"] == [logging.WARNING]
    assert "incomplete" in caplog.text
    before = clock.now_us()
    enter(recorder, lost, COMPLETED)
    recorder.flush()
    stats = store.stats()
    assert stats.incomplete_since_us is not None
    assert stats.incomplete_since_us <= before
    assert stats.missing_rows == 5
    assert store.task_run(lost.key).state_name == "Completed"
    recorder.flush()
    assert store.stats().missing_rows == 5


def test_a_run_whose_beginning_was_lost_is_written_as_a_whole_at_its_end(closing: Closing) -> None:
    store = BrokenStore(failures=1)
    recorder = closing(StoreRecorder(store, retry_seconds=0))
    lost = begin_task_run(recorder, None, "load", 8)
    with pytest.raises(HistoryError):
        recorder.flush()
    go_through(recorder, lost, [RUNNING, COMPLETED])
    recorder.flush()
    row = store.task_run(lost.key)
    assert (row.name, row.state_name, row.created_us, row.ended_us) == (
        "load-8",
        "Completed",
        lost.created_us,
        lost.ended_us,
    )
    assert [state.seq for state in store.states(lost.key)] == [1, 2]


def test_a_flush_tells_of_a_loss_before_it(closing: Closing) -> None:
    store = BrokenStore(failures=1)
    recorder = closing(StoreRecorder(store, retry_seconds=0))
    begin_task_run(recorder, None)
    # The loss happens behind our back, by the recorder's own doing.
    assert store.gave_up.wait(10)
    begin_task_run(recorder, None)
    with pytest.raises(HistoryError, match="disk is full"):
        recorder.flush()
    recorder.flush()


def test_closing_marks_the_history_incomplete(closing: Closing) -> None:
    store = BrokenStore(failures=1)
    recorder = StoreRecorder(store, retry_seconds=0)
    begin_task_run(recorder, None)
    recorder.close()
    assert store.stats().missing_rows == 2


def test_a_batch_written_twice_leaves_no_double_rows(tmp_path: Path, closing: Closing) -> None:
    store = ForgetfulStore(tmp_path / "home")
    recorder = closing(StoreRecorder(store))
    flow_run = begin_flow_run(recorder)
    enter(recorder, flow_run, RUNNING)
    recorder.flush()
    for index in range(10):
        go_through(
            recorder, begin_task_run(recorder, flow_run, "load", index), [RUNNING, FAILED if index % 2 else COMPLETED]
        )
    waiting = begin_task_run(recorder, flow_run, "load", 10)
    recorder.logged(flow_run, 20, "logger", "once", clock.now_us())
    recorder.flush()
    go_through(recorder, waiting, [RUNNING, COMPLETED])
    enter(recorder, flow_run, COMPLETED)
    recorder.flush()
    assert len(store.wrote) == 3
    rows = {"process": 1, "flow_run": 1, "task_run": 11, "attempt": 12, "state": 36, "log": 1, "result": 0}
    assert store.stats().rows == rows
    assert store.check() == []


def test_a_full_queue_holds_callers_back_with_one_warning(
    closing: Closing, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StuckStore()
    recorder = closing(StoreRecorder(store, queue_bound=50))
    begin_task_run(recorder, None)
    assert store.entered.wait(10)
    done, told = threading.Event(), threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.set()

    monkeypatch.setattr(logging.getLogger("prefect_core.history"), "handlers", [Listener()])

    def record() -> None:
        for _ in range(200):
            begin_task_run(recorder, None)
        done.set()

    thread = threading.Thread(target=record)
    thread.start()
    # Let go only when the thread was seen to wait.
    assert told.wait(10)
    assert not done.is_set()
    assert len(recorder._queue) <= 52
    store.go_on.set()
    thread.join(10)
    assert done.is_set()
    recorder.flush()
    assert store.stats().rows["task_run"] == 201
    assert caplog.text.count("held back") == 1


def test_many_events_become_few_batches(closing: Closing) -> None:
    store = BrokenStore(failures=0)
    recorder = closing(StoreRecorder(store))
    for index in range(3000):
        go_through(recorder, begin_task_run(recorder, None, "load", index), [RUNNING, COMPLETED])
    recorder.flush()
    assert sum(store.batches) >= 15_000
    assert len(store.batches) < 20


def test_a_mistake_in_a_store_neither_hangs_nor_passes_in_silence(closing: Closing) -> None:
    class Mistaken(MemoryStore):
        def write(self, batch: Batch) -> None:
            raise ZeroDivisionError("oops")

    recorder = closing(StoreRecorder(Mistaken()))
    begin_task_run(recorder, None)
    with pytest.raises(HistoryError, match="ZeroDivisionError: oops"):
        recorder.flush()


def test_closing_writes_what_is_left_and_may_be_repeated() -> None:
    store = MemoryStore()
    recorder = StoreRecorder(store)
    begin_task_run(recorder, None)
    recorder.close()
    recorder.close()
    assert store.stats().rows["task_run"] == 1
    with pytest.raises(HistoryError, match="stopped"):
        recorder.flush()


def test_a_finished_run_is_let_go(closing: Closing) -> None:
    recorder = closing(StoreRecorder(MemoryStore()))
    open_run = begin_task_run(recorder, None)
    go_through(recorder, begin_task_run(recorder, None), [RUNNING, FAILED])
    recorder.flush()
    assert recorder._fold.unfinished == 1
    go_through(recorder, open_run, [RUNNING, COMPLETED])
    recorder.flush()
    assert recorder._fold.unfinished == 0


def test_the_recorder_of_this_process_is_opened_once(home: Path) -> None:
    recorder = history.current()
    assert history.current() is recorder
    assert (home / "history.db").is_file()
    other = StoreRecorder(MemoryStore())
    assert history.install(other) is recorder
    assert history.current() is other
    assert history.install(recorder) is other
    other.close()


def test_a_log_handler_may_flush_when_it_hears_of_a_loss(closing: Closing, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = closing(StoreRecorder(BrokenStore(failures=1), retry_seconds=0))

    class Flushing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            recorder.flush()

    monkeypatch.setattr(logging.getLogger("prefect_core.history"), "handlers", [Flushing()])
    begin_task_run(recorder, None)
    with pytest.raises(HistoryError, match="disk is full"):
        recorder.flush()


def test_importing_the_history_loads_no_database() -> None:
    code = "import sys, prefect_core.history; print(sorted({'sqlite3', 'dataclasses', 'hashlib'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout == "[]\n"


def test_a_crash_point_kills_at_the_chosen_pass_alone() -> None:
    code = "from prefect_core.crash_points import crash_point as p; p('a'); p('b'); print('one', flush=True); p('a'); print('two')"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, crash_points.VARIABLE: "a:2"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (-9, "one\n")
