"""A process that stores is killed, at named points and at system calls: a key has the earlier object, the new one, or none; whole."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from prefect_core.storage.local import LocalStorage
from tests.integration.storage import program
from tests.integration.storage.program import EARLIER, NEW

BEFORE_ITS_NAME = ["storage.before_write", "storage.after_write", "storage.after_fsync"]
WITH_ITS_NAME = ["storage.after_rename", "storage.after_folder"]
# How often the program makes each call: an interpreter that starts and writes no bytecode makes none of these.
CALLS = {"write": 3, "fsync": 4, "rename,renameat,renameat2": 1, "mkdir,mkdirat": 1}
needs_strace = pytest.mark.skipif(
    program.STRACE is None, reason="strace, which kills at a chosen system call, is not installed"
)


def kill_and_judge(folder: Path, *, earlier: bool, crash_at: str = "", inject: str = "") -> tuple[bool, int | None]:
    """Return whether the process was killed, and what the key had then."""
    folder.mkdir()
    if earlier:
        program.write_earlier(folder)
    outcome = program.write(folder, crash_at=crash_at, inject=inject)
    assert outcome.code in (0, -signal.SIGKILL, 128 + signal.SIGKILL), outcome.errors
    now = program.found(folder)
    assert now in {NEW, EARLIER if earlier else None}
    assert outcome.word != "acked" or now == NEW
    tidy_up_and_go_on(folder)
    return outcome.code != 0, now


def tidy_up_and_go_on(folder: Path) -> None:
    storage = LocalStorage(folder)
    count = len(program.temporary_files(folder))
    assert storage.clear_leftovers(0) == 0
    assert storage.clear_leftovers(time.time_ns() // 1000 + 60_000_000) == count
    assert program.temporary_files(folder) == []
    assert program.write(folder).word == "acked"
    assert program.found(folder) == NEW


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("point", BEFORE_ITS_NAME)
def test_a_kill_before_the_object_has_its_name_leaves_the_earlier_one(
    tmp_path: Path, point: str, earlier: bool
) -> None:
    assert kill_and_judge(tmp_path / "s", earlier=earlier, crash_at=point) == (True, EARLIER if earlier else None)


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("point", WITH_ITS_NAME)
def test_a_kill_after_that_leaves_the_new_one(tmp_path: Path, point: str, earlier: bool) -> None:
    assert kill_and_judge(tmp_path / "s", earlier=earlier, crash_at=point) == (True, NEW)


@needs_strace
@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize(
    ("calls", "count"), [(calls, count) for calls, most in CALLS.items() for count in range(1, most + 1)]
)
def test_a_kill_at_a_system_call_leaves_a_whole_object_or_none(
    tmp_path: Path, calls: str, count: int, earlier: bool
) -> None:
    was_killed, _ = kill_and_judge(tmp_path / "s", earlier=earlier, inject=f"{calls}:signal=SIGKILL:when={count}")
    assert was_killed
