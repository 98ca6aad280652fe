"""Cancelling is certain with `isolation="process"`: bodies that heed nothing are over with the grace period, on each local runner."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from prefect_core import cancel_flow_run, cancel_task_run, flow, history, task
from prefect_core.history.rows import FlowRunRow, TaskRunRow
from prefect_core.history.store import HistoryStore, RunFilter
from prefect_core.states import State
from prefect_core.task_runners import ExecutorTaskRunner
from tests.integration import isolated
from tests.integration.programs import running
from tests.integration.watched import PATIENCE_SECONDS, Told, ends

pytestmark = pytest.mark.slow

GRACE_SECONDS = 0.2
LIMIT_SECONDS = GRACE_SECONDS + 1
TRIES = 3
"""How often a case may be tried until it is within the limit: others use this machine. All else holds each time."""
DEAF = ["spin", "sleep_in_c"]
MESSAGES = {"task": "Task run was cancelled.", "flow": "Flow run was cancelled."}


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


class Canceller:
    """A thread that cancels the newest run of a kind once its body runs, and knows when it asked."""

    def __init__(self, kind: str, told: Told) -> None:
        self.asked = 0.0
        self.pids: list[int] = []
        self._kind, self._told = kind, told
        self._thread = threading.Thread(target=self._cancel)

    def _cancel(self) -> None:
        self.pids = self._told.pids()
        store = history.open_store()
        try:
            row = self._newest(store)
            self.asked = time.monotonic()
            if self._kind == "task":
                cancel_task_run(row.id, GRACE_SECONDS)
            else:
                assert row.flow_run is not None
                cancel_flow_run(store.flow_run(row.flow_run).id, GRACE_SECONDS)
        finally:
            store.close()

    def _newest(self, store: HistoryStore) -> TaskRunRow:
        # What is recorded comes a moment later. It may stay Pending: a body that holds the interpreter lets its process tell nothing.
        while True:
            for row in store.task_runs(RunFilter(name="tell_and_hold", limit=1)):
                if row.state_type in {"PENDING", "RUNNING"}:
                    return row
            time.sleep(0.002)

    def seconds_of(self, run: Callable[[], object]) -> float:
        """Run something that is cancelled meanwhile; returns how long after that was asked all of it was gone."""
        self._thread.start()
        run()
        self._thread.join(PATIENCE_SECONDS)
        assert self.asked
        assert all(map(ends, self.pids))
        return time.monotonic() - self.asked


def in_time(kind: str, folder: Path, run: Callable[[Path], object]) -> None:
    """Let what holds a body be cancelled, and see that it is over within the limit."""
    for number in range(TRIES):
        told = Told(folder / f"told-{number}")
        try:
            seconds = Canceller(kind, told).seconds_of(partial(run, told.pipe))
        finally:
            told.close()
        assert seconds >= GRACE_SECONDS
        store = history.open_store()
        row = (store.task_runs if kind == "task" else store.flow_runs)()[0]
        assert (row.state_name, row.state_message) == ("Cancelled", MESSAGES[kind])
        if seconds < LIMIT_SECONDS:
            return
    raise AssertionError(f"It took {seconds:.2f} s at last.")


def runner_of(name: str, executor: ThreadPoolExecutor) -> Any:
    return ExecutorTaskRunner(executor) if name == "executor" else name


@pytest.mark.parametrize("deaf", DEAF)
@pytest.mark.parametrize("kind", ["task", "flow"])
@pytest.mark.parametrize("runner", ["sequential", "concurrent", "processes:1", "executor", "direct"])
def test_a_body_that_heeds_nothing_is_gone_with_the_grace_period(
    runner: str, kind: str, deaf: str, executor: ThreadPoolExecutor, tmp_path: Path
) -> None:
    def body(pipe: Path) -> State:
        if runner == "direct":
            return isolated.tell_and_hold(pipe, deaf, return_state=True)
        return isolated.tell_and_hold.submit(pipe, deaf).wait()

    around = flow(body, task_runner=runner_of("sequential" if runner == "direct" else runner, executor))

    in_time(kind, tmp_path, partial(around, return_state=True))
    assert {row.state_name for row in history.open_store().task_runs()} == {"Cancelled"}


OUTSIDE = """
from pathlib import Path
from tests.integration import isolated

say(isolated.tell_and_hold(Path({pipe!r}), {deaf!r}, return_state=True).name)
"""


@pytest.mark.parametrize("deaf", DEAF)
def test_one_that_is_called_outside_of_flows_is_too(deaf: str, home: Path, tmp_path: Path) -> None:
    def run(pipe: Path) -> None:
        with running(home, OUTSIDE.format(pipe=str(pipe), deaf=deaf)) as program:
            code, _ = program.end(PATIENCE_SECONDS)
            assert (code, program.lines) == (0, ["Cancelled"])

    in_time("task", tmp_path, run)


# What heeds it has the grace period to clean up, also where the one who waits for it is interrupted.


def cleaned_up(cancelled: str, folder: Path, run: Callable[[Path, Path], Any]) -> None:
    """Cancel the run of this name with plenty of grace, and see that the body in it has cleaned up by its end."""
    pipe, cleaned = folder / "told", folder / "cleaned"
    os.mkfifo(pipe)
    pids: list[int] = []

    def cancel() -> None:
        pids.append(int(pipe.read_text()))
        store = history.open_store()
        try:
            while True:
                for row in (*store.flow_runs(), *store.task_runs()):
                    if (row.name, row.state_name) == (cancelled, "Running"):
                        ask = cancel_flow_run if isinstance(row, FlowRunRow) else cancel_task_run
                        ask(row.id, PATIENCE_SECONDS)
                        return
        finally:
            store.close()

    thread = threading.Thread(target=cancel)
    thread.start()
    run(pipe, cleaned)
    thread.join(PATIENCE_SECONDS)
    assert cleaned.read_text() == "up"
    assert ends(pids[0])
    store = history.open_store()
    assert {row.state_name for row in (*store.flow_runs(), *store.task_runs()) if row.name == cancelled} == {
        "Cancelled"
    }


CALLS: dict[str, Callable[[Path, Path], State]] = {
    "submitted": lambda pipe, cleaned: isolated.clean_up.submit(pipe, cleaned).wait(),
    "direct": lambda pipe, cleaned: isolated.clean_up(pipe, cleaned, return_state=True),
    "in a task": lambda pipe, cleaned: task(isolated.clean_up, name="around")(pipe, cleaned, return_state=True),
    "in a subflow": lambda pipe, cleaned: flow(isolated.clean_up, name="around")(pipe, cleaned, return_state=True),
}


@pytest.mark.parametrize(
    ("call", "cancelled"),
    [
        ("submitted", "outermost"),
        ("submitted", "clean_up-0"),
        ("direct", "outermost"),
        ("direct", "clean_up-0"),
        ("in a task", "outermost"),
        ("in a task", "around-0"),
        ("in a subflow", "outermost"),
    ],
)
def test_one_that_the_main_thread_waits_for_may_clean_up(call: str, cancelled: str, tmp_path: Path) -> None:
    around = flow(CALLS[call], flow_run_name="outermost", task_runner="sequential")
    cleaned_up(cancelled, tmp_path, lambda pipe, cleaned: around(pipe, cleaned, return_state=True))
