"""Concurrency limits among real processes, some of which are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prefect_core import flow, history
from prefect_core.concurrency import concurrency
from prefect_core.history.limits import RequestRow
from prefect_core.history.process import is_gone
from prefect_core.limits import desk
from prefect_core.limits.names import make
from tests.integration import limited

PATIENCE = 50
PROGRAM = str(Path(limited.__file__))


@pytest.fixture
def path(tmp_path: Path) -> str:
    make("one", 1)
    make("tag:one", 1)
    make("three", 3)
    return str(tmp_path / "log")


class Started:
    """A program under way."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def holds(self) -> bool:
        """Wait until it has its slot."""
        return self.stdout.readline() == b"held\n"

    def leave(self) -> None:
        """Let it give its slot back."""
        self.stdin.write(b"\n")
        self.stdin.flush()

    def end(self) -> int:
        """Wait until it has ended."""
        return self.process.wait(PATIENCE)


@pytest.fixture
def start() -> Iterator[Callable[..., Started]]:
    started: list[Started] = []

    def starts(*arguments: str) -> Started:
        started.append(Started(*arguments))
        return started[-1]

    yield starts
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait(PATIENCE)
        one.stdin.close()
        one.stdout.close()


def requests() -> list[RequestRow]:
    return history.current().limits()[0].requests(is_gone)


def await_waiters(count: int) -> None:
    end = time.monotonic() + PATIENCE
    while sum(row.granted_us is None for row in requests()) < count:
        assert time.monotonic() < end
        time.sleep(0.01)


def most_inside(path: str) -> int:
    inside = most = 0
    for line in Path(path).read_text(encoding="utf-8").split():
        inside += 1 if line == "in" else -1
        most = max(most, inside)
    assert inside == 0
    return most


def test_of_eight_processes_no_more_are_inside_than_there_are_slots(path: str, start: Any) -> None:
    programs = [start("crowd", path, "25") for _ in range(8)]
    assert [program.end() for program in programs] == [0] * 8
    assert Path(path).read_text(encoding="utf-8").count("in") == 8 * 25
    assert most_inside(path) <= 3
    assert requests() == []


def test_they_are_served_in_order_of_arrival_whichever_process_they_are_in(path: str, start: Any) -> None:
    with concurrency("one"):
        programs = []
        for number in range(4):
            programs.append(start("hold", path, str(number)))
            await_waiters(number + 1)
    for program in programs:
        assert program.holds()
        program.leave()
        assert program.end() == 0
    assert Path(path).read_text(encoding="utf-8").split() == ["0", "1", "2", "3"]


@pytest.mark.parametrize(("what", "limit"), [("hold", "one"), ("run", "tag:one")])
def test_and_by_priority_before_that(path: str, start: Any, what: str, limit: str) -> None:
    with concurrency(limit):
        programs = {}
        for number, priority in enumerate(("0", "3", "-1", "3")):
            programs[number] = start(what, path, str(number), priority)
            await_waiters(number + 1)
        assert [row.priority for row in requests() if row.granted_us is None] == [3, 3, 0, -1]
    for number in (1, 3, 0, 2):
        assert programs[number].holds()
        programs[number].leave()
        assert programs[number].end() == 0
    assert Path(path).read_text(encoding="utf-8").split() == ["1", "3", "0", "2"]


@pytest.mark.parametrize("what", ["hold", "run"])
def test_a_killed_holder_gives_its_slot_back(path: str, start: Any, what: str) -> None:
    holder = start(what, path, "first")
    assert holder.holds()
    waiter = start(what, path, "second")
    await_waiters(1)
    # Its lease is far longer than this test may take.
    holder.process.kill()
    assert waiter.holds()
    assert len(requests()) == 1
    waiter.leave()
    assert waiter.end() == 0


def test_a_killed_waiter_is_in_nobodys_way(path: str, start: Any) -> None:
    holder = start("hold", path, "first")
    assert holder.holds()
    killed = start("hold", path, "second")
    await_waiters(1)
    last = start("hold", path, "third")
    await_waiters(2)
    killed.process.kill()
    holder.leave()
    assert last.holds()
    last.leave()
    assert last.end() == 0
    assert Path(path).read_text(encoding="utf-8").split() == ["first", "third"]


def test_a_stopped_process_keeps_its_slot(path: str, start: Any) -> None:
    holder = start("hold", path, "first")
    assert holder.holds()
    os.kill(holder.process.pid, signal.SIGSTOP)
    table, process = history.current().limits()
    for _ in range(20):
        table.look(process, is_gone)
    assert [row.granted_us is not None for row in requests()] == [True]
    os.kill(holder.process.pid, signal.SIGCONT)
    holder.leave()
    assert holder.end() == 0
    assert requests() == []


def test_a_slot_goes_from_one_process_to_another_soon(path: str, start: Any) -> None:
    waits = []
    for number in range(3):
        with concurrency("one"):
            waiter = start("hold", path, str(number))
            await_waiters(1)
            # Released just before a look of the other's clerk, or just after one.
            time.sleep(0.03 * number)
        released = time.monotonic()
        assert waiter.holds()
        waits.append(time.monotonic() - released)
        waiter.leave()
        assert waiter.end() == 0
    # It is a quarter of a second where there is a processor for it.
    assert min(waits) < 0.25


def test_tasks_in_worker_processes_are_limited_by_their_flow(path: str) -> None:
    @flow(task_runner="processes:3")
    def workers() -> None:
        limited.tagged.map([path] * 12).result()

    workers()
    assert Path(path).read_text(encoding="utf-8").count("in") == 12
    assert most_inside(path) == 1


def test_blocks_in_worker_processes_are_limited(path: str) -> None:
    @flow(task_runner="processes:4")
    def workers() -> None:
        limited.goes_in.map([path] * 20).result()

    workers()
    assert Path(path).read_text(encoding="utf-8").count("in") == 20
    assert most_inside(path) <= 3


def test_a_block_around_is_around_bodies_in_worker_processes_too(path: str) -> None:
    @flow(task_runner="processes:2")
    def workers() -> None:
        with concurrency("one"):
            limited.goes_in.map([path] * 4, "one").result()

    workers()
    assert most_inside(path) == 1


def test_a_task_in_a_worker_process_does_not_wait_for_itself(path: str) -> None:
    @flow(task_runner="processes:2")
    def workers() -> list[int]:
        return limited.parent.map([path] * 2).result()

    assert workers() == [4, 4]
    assert Path(path).read_text(encoding="utf-8").count("in") == 8
    assert most_inside(path) == 1
    desk().flush()
    assert requests() == []


def test_a_forked_child_asks_for_itself(path: str) -> None:
    with concurrency("one"):
        pid = os.fork()
        if not pid:
            try:
                with concurrency("three", timeout_seconds=PATIENCE):
                    limited.log(path, f"{len(requests())} in the child")
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert Path(path).read_text(encoding="utf-8") == "2 in the child\n"
        assert [row.name for row in requests()] == ["one"]


def test_a_forked_child_that_leaves_its_parents_block_gives_nothing_back(path: str) -> None:
    pid = 0
    with concurrency("one"):
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
            assert [row.name for row in requests()] == ["one"]
    if not pid:
        os._exit(0)
    desk().flush()
    assert requests() == []
