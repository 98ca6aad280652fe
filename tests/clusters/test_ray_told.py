"""What bodies on Ray tell: logs and prints whole, once, in order, and live where they take longer."""

from __future__ import annotations

import os
import signal
import time
import warnings
from typing import Any

import pytest

from prefect_core import flow, get_run_logger, history, task
from prefect_core.states import State
from prefect_core.testing.contract.journal import Journal

pytestmark = pytest.mark.usefixtures("borrowed")


def messages(name: str) -> list[str]:
    store = history.open_store()
    return [log.message for log in store.logs(store.task_run(name).key) if "Finished" not in log.message]


def test_what_a_body_logs_and_prints_comes_once_and_in_order(capfd: pytest.CaptureFixture[str]) -> None:
    @task(log_prints=True)
    def speak(count: int) -> None:
        for number in range(count):
            (print if number % 2 else get_run_logger().info)(f"line {number}")

    @flow(task_runner="ray")
    def run() -> None:
        speak.submit(5_000)
        speak.submit(3)

    run()
    assert messages("speak-0") == [f"line {number}" for number in range(5_000)]
    assert messages("speak-1") == ["line 0", "line 1", "line 2"]
    assert capfd.readouterr().err.count("Task run 'speak-0' - line 4999\n") == 1


def test_a_warning_of_a_body_comes_here_once(caplog: pytest.LogCaptureFixture) -> None:
    @task
    def warn() -> None:
        warnings.warn("beware of Ray", stacklevel=1)

    @flow(task_runner="ray")
    def run() -> None:
        warn.submit()

    run()
    [record] = [record for record in caplog.records if "beware of Ray" in record.getMessage()]
    assert (record.name, record.levelname) == ("py.warnings", "WARNING")
    assert "UserWarning: beware of Ray" in record.getMessage()


def test_a_body_that_takes_longer_shows_as_running_within_a_second_and_tells_what_it_does(journal: Journal) -> None:
    @task(log_prints=True)
    def hold() -> None:
        print("before")
        journal.note("held")
        journal.wait_for("go")
        print("after")

    @flow(task_runner="ray")
    def run() -> tuple[str, list[str]]:
        future = hold.submit()
        journal.wait_for("held")
        begun = time.monotonic()
        while not future.state.is_running() and time.monotonic() - begun < 5:
            time.sleep(0.01)
        waited = time.monotonic() - begun
        deadline = time.monotonic() + 5
        while messages("hold-0") != ["before"] and time.monotonic() < deadline:
            history.current().flush()
        journal.note("go")
        future.wait()
        return waited, deadline - time.monotonic()

    waited, left = run()
    assert waited < 1.2
    assert left > 0
    assert messages("hold-0") == ["before", "after"]


def test_what_a_body_told_before_its_process_died_is_kept(journal: Journal) -> None:
    @task(log_prints=True)
    def die() -> None:
        print("last words")
        time.sleep(1.2)
        os.kill(os.getpid(), signal.SIGKILL)

    @flow(task_runner="ray")
    def run() -> State | None:
        return die.submit().wait()

    state: Any = run(return_state=True).data
    assert state.is_crashed()
    assert messages("die-0") == ["last words"]
