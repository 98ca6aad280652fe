"""What every lock manager keeps: one holder to a key, and no lock for ever."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_core import history, locking
from prefect_core.history.locks import LEASE_US, LockRow, LockTable
from prefect_core.history.memory import MemoryStore
from prefect_core.history.process import ProcessIdentity, this_process
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.locking import DatabaseLockManager, FileSystemLockManager, LockManager, MemoryLockManager
from prefect_core.storage.keys import file_name_of
from prefect_core.testing import FakeClock, harness

ALL = ["memory", "files", "history in memory", "history in a file"]
ACROSS_PROCESSES = ["files", "history in a file"]


def made(kind: str, folder: Path) -> Iterator[LockManager]:
    if kind == "memory":
        yield MemoryLockManager()
    elif kind == "files":
        yield FileSystemLockManager(folder / "locks")
    else:
        with harness(history="memory" if kind.endswith("memory") else "sqlite"):
            yield DatabaseLockManager()


@pytest.fixture(params=ALL)
def manager(request, tmp_path: Path) -> Iterator[LockManager]:
    yield from made(request.param, tmp_path)


@pytest.fixture(params=ACROSS_PROCESSES)
def shared(request, tmp_path: Path) -> Iterator[LockManager]:
    yield from made(request.param, tmp_path)


def test_a_lock_has_one_holder(manager: LockManager) -> None:
    assert not manager.is_locked("one")
    assert manager.acquire_lock("one", "me")
    assert manager.is_locked("one")
    assert manager.is_lock_holder("one", "me")
    assert not manager.is_lock_holder("one", "you")
    assert not manager.acquire_lock("one", "you", acquire_timeout=0)
    assert not manager.acquire_lock("one", "you", acquire_timeout=0.02)
    assert manager.acquire_lock("other", "you", acquire_timeout=0)
    manager.release_lock("one", "me")
    manager.release_lock("other", "you")
    assert not manager.is_locked("one")


def test_who_has_it_gets_it_again(manager: LockManager) -> None:
    assert manager.acquire_lock("again", "me")
    assert manager.acquire_lock("again", "me", acquire_timeout=0)
    manager.release_lock("again", "me")
    assert not manager.is_locked("again")


def test_only_the_holder_lets_go(manager: LockManager) -> None:
    with pytest.raises(ValueError, match="No lock held by me for transaction with key mine"):
        manager.release_lock("mine", "me")
    manager.acquire_lock("mine", "me")
    with pytest.raises(ValueError, match="No lock held by you for transaction with key mine"):
        manager.release_lock("mine", "you")
    assert manager.is_lock_holder("mine", "me")
    manager.release_lock("mine", "me")


def test_a_hold_may_have_an_end(manager: LockManager) -> None:
    with FakeClock() as clock:
        manager.acquire_lock("ends", "me", hold_timeout=10)
        clock.advance(9)
        assert manager.is_locked("ends")
        assert not manager.acquire_lock("ends", "you", acquire_timeout=0)
        clock.advance(1)
        assert not manager.is_locked("ends")
        assert manager.acquire_lock("ends", "you", acquire_timeout=0)
        manager.release_lock("ends", "you")


def test_waiting_ends_when_the_lock_is_let_go_of(manager: LockManager) -> None:
    manager.acquire_lock("waited", "me")
    assert not manager.wait_for_lock("waited", timeout=0.02)
    answers = []
    waiting = [
        threading.Thread(target=lambda: answers.append(manager.wait_for_lock("waited", 20))),
        threading.Thread(target=lambda: answers.append(manager.acquire_lock("waited", "you", 20))),
    ]
    for thread in waiting:
        thread.start()
    manager.release_lock("waited", "me")
    waiting[1].join(20)
    manager.release_lock("waited", "you")
    waiting[0].join(20)
    assert answers == [True, True]
    assert manager.wait_for_lock("waited")


def test_the_async_twins_do_the_same(manager: LockManager) -> None:
    async def twins() -> None:
        assert await manager.aacquire_lock("async", "me")
        assert not await manager.aacquire_lock("async", "you", acquire_timeout=0)
        assert not await manager.await_for_lock("async", timeout=0.02)
        waiting = asyncio.ensure_future(manager.aacquire_lock("async", "you", acquire_timeout=20))
        await asyncio.sleep(0)
        manager.release_lock("async", "me")
        assert await waiting
        manager.release_lock("async", "you")
        assert await manager.await_for_lock("async")

    asyncio.run(twins())


def test_of_many_threads_one_has_it_at_a_time(manager: LockManager) -> None:
    inside, most = 0, 0

    def work(name: str) -> None:
        nonlocal inside, most
        for _ in range(5):
            manager.acquire_lock("crowd", name)
            inside += 1
            most = max(most, inside)
            inside -= 1
            manager.release_lock("crowd", name)

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert most == 1


@pytest.mark.parametrize("key", ["../../out", "/abs", "a\0b", "x" * 5_000, "ä", ".", "", "a.lock"])
def test_a_key_may_be_any_text(manager: LockManager, key: str, tmp_path: Path) -> None:
    assert manager.acquire_lock(key, "me")
    assert not manager.acquire_lock(key, "you", acquire_timeout=0)
    manager.release_lock(key, "me")
    assert not (tmp_path.parent / "out.lock").exists()


HOLDS = """
import os, sys, time
from prefect_core import history
from prefect_core.locking import DatabaseLockManager, FileSystemLockManager
manager = FileSystemLockManager(sys.argv[1]) if sys.argv[1] else DatabaseLockManager()
assert manager.acquire_lock("theirs", "them")
print("held", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_held_is_free_at_once(shared: LockManager, tmp_path: Path) -> None:
    folder = str(tmp_path / "locks") if isinstance(shared, FileSystemLockManager) else ""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder.stdin, holder.stdout:
        assert holder.stdout.readline() == b"held\n"
        assert shared.is_locked("theirs")
        assert not shared.acquire_lock("theirs", "me", acquire_timeout=0)
        holder.kill()
        holder.wait(20)
    assert not shared.is_locked("theirs")
    assert shared.acquire_lock("theirs", "me", acquire_timeout=0)
    shared.release_lock("theirs", "me")


# The history's half of it.


@pytest.fixture(params=["memory", "sqlite"])
def table(request, tmp_path: Path) -> Iterator[LockTable]:
    store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "home")
    store.next_key()
    yield store.locks()
    store.close()


def test_a_table_tells_who_has_a_lock(table: LockTable) -> None:
    def lives(_: ProcessIdentity) -> bool:
        return False

    assert table.find("k") is None
    assert table.take("k", "me", 1, None, lives)
    assert not table.take("k", "you", 1, None, lives)
    row = table.find("k")
    assert row is not None
    assert (row.holder, row.expires_us, row.process) == ("me", None, this_process())
    assert table.renew(1) == 1
    assert not table.release("k", "you")
    assert table.release("k", "me")
    assert table.renew(1) == 0


def test_a_lock_is_free_when_its_process_is_gone_or_has_been_silent() -> None:
    row = LockRow("k", "me", this_process(), None, 1_000)
    long_after = 1_000 + LEASE_US
    assert row.is_free(2_000, lambda _: True)
    assert not row.is_free(long_after, lambda _: False)
    assert not row.is_free(long_after - 1, lambda _: None)
    assert row.is_free(long_after, lambda _: None)
    assert row._replace(process=None).is_free(long_after, lambda _: False)
    assert row._replace(expires_us=5_000).is_free(5_000, lambda _: False)


def test_locks_are_closed_with_their_history(tmp_path: Path) -> None:
    with harness(history="sqlite"):
        DatabaseLockManager().acquire_lock("k", "me")
        locks = history.current().stored().locks()
        assert locks is history.current().stored().locks()


# What is particular to one.


def test_a_memory_lock_manager_is_the_only_one(caplog) -> None:
    assert MemoryLockManager() is MemoryLockManager()
    caplog.set_level(logging.WARNING)
    assert pickle.loads(pickle.dumps(MemoryLockManager())) is MemoryLockManager()
    assert "in another process, its locks are others" in caplog.text


def test_others_are_equal_by_what_they_lock_in_and_survive_pickling(tmp_path: Path) -> None:
    for manager in (FileSystemLockManager(tmp_path), DatabaseLockManager()):
        again = pickle.loads(pickle.dumps(manager))
        assert again == manager
        assert hash(again) == hash(manager)
    assert FileSystemLockManager(tmp_path / "a") != FileSystemLockManager(tmp_path / "b")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"holder": 1}'])
def test_a_file_that_is_no_lock_locks_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "k.lock").write_text(content)
    assert FileSystemLockManager(tmp_path).acquire_lock("k", "me", acquire_timeout=0)


def test_a_lock_file_says_who_holds_it(tmp_path: Path) -> None:
    FileSystemLockManager(tmp_path).acquire_lock("k", "me")
    assert '"holder": "me"' in (tmp_path / "k.lock").read_text()


def test_plain_words_name_their_files() -> None:
    assert file_name_of("daily-report_2.csv") == "daily-report_2.csv"
    assert len({file_name_of(text) for text in ("", ".", "..", ".hidden", "a/b", "a b", "x" * 129)}) == 7


def test_the_face_hands_on_all_managers() -> None:
    assert {"DatabaseLockManager", "FileSystemLockManager", "MemoryLockManager"} <= set(locking.__all__)
