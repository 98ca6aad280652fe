"""A borrowed Ray is left as it was found, however a flow run ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from prefect_core import flow, task
from prefect_core.settings import temporary_settings
from prefect_core.states import State
from prefect_core.task_runners import RayTaskRunner
from prefect_core.testing.contract.journal import Journal
from prefect_runners.ray_attempts import Attempt
from prefect_runners.ray_clerk import Clerk
from tests.clusters.ray_bodies import hold, our_threads, process, still_alive


class TestBorrowed:
    @pytest.fixture(autouse=True)
    def clean(self, borrowed: None) -> Iterator[None]:
        yield
        assert our_threads() == []
        assert ray.is_initialized()

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def warm(cls, borrowed: None) -> None:
        ray.get([ray.remote(lambda: None).remote() for _ in range(2)])

    def test_nothing_runs_on_it_after_a_flow_that_fails(self, journal: Journal) -> None:
        @flow(task_runner="ray")
        def run() -> None:
            for _ in range(6):
                hold.submit(journal)
            while len(journal.lines()) < 2:
                time.sleep(0.01)
            raise KeyError("enough")

        with temporary_settings(cancel_grace_seconds=0.1):
            assert run(return_state=True).is_failed()
        journal.note("go")
        assert still_alive(journal.lines()[:2]) == []
        assert len(journal.lines()) == 3
        assert ray.get(ray.remote(lambda: "free").options(num_cpus=2).remote(), timeout=20) == "free"
        assert len(journal.lines()) == 3

    def test_nothing_runs_on_it_after_a_flow_that_times_out(self, journal: Journal) -> None:
        @flow(task_runner="ray", timeout_seconds=3.0)
        def run() -> None:
            hold.submit(journal).wait()

        with temporary_settings(cancel_grace_seconds=0.1):
            assert run(return_state=True).name == "TimedOut"
        journal.note("go")
        assert still_alive(journal.lines()[:1]) == []
        assert "went on" not in journal.lines()

    def test_a_body_that_does_not_heed_its_deadline_is_ended_with_its_process(self, journal: Journal) -> None:
        @task(timeout_seconds=0.3)
        def deaf() -> None:
            journal.note(str(os.getpid()))
            while True:
                try:
                    time.sleep(60)
                except BaseException:
                    continue

        @flow(task_runner="ray")
        def run() -> State | None:
            return deaf.submit().wait()

        state: Any = run(return_state=True).data
        assert state.name == "TimedOut"
        assert still_alive(journal.lines()[:1]) == []

    def test_a_body_that_runs_is_not_interrupted_by_a_vain_attempt_to_take_it_back(self, journal: Journal) -> None:
        @flow(task_runner="ray")
        def run() -> None:
            hold.submit(journal)
            while not journal.lines():
                time.sleep(0.01)
            threading.Timer(0.5, journal.note, ["go"]).start()
            raise KeyError("enough")

        run(return_state=True)
        assert "went on" in journal.lines()

    def test_another_address_is_refused_while_this_process_is_connected(self) -> None:
        @flow(task_runner=RayTaskRunner("10.1.2.3:6379"))
        def run() -> None:
            process.submit()

        state = run(return_state=True)
        assert "10.1.2.3:6379" in state.message
        assert "connected to" in state.message


def test_what_ray_is_to_call_back_for_is_held_until_it_does(borrowed: None) -> None:
    def is_held() -> bool:
        return key in ray._private.worker.global_worker.core_worker.get_all_reference_counts()

    def nap() -> bytes:
        time.sleep(0.5)
        return b"reply"

    attempt = Attempt(1, None, lambda _: None)  # type: ignore[arg-type]  # nothing is delivered
    attempt.reply = ray.remote(nap).remote()
    key = attempt.reply.hex().encode()
    clerk = SimpleNamespace(_news=SimpleQueue())
    Clerk._call_back(clerk, attempt)  # type: ignore[arg-type]  # all that it needs
    # As after it was asked for and dealt with.
    attempt.let_go()
    assert is_held()
    assert clerk._news.get(timeout=20) == (attempt, b"reply")
    deadline = time.monotonic() + 20
    while is_held() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_held()
