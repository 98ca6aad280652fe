"""What a process has begun, on a file that outlives it."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from prefect_runners.beginnings import Beginnings, begun_among


def test_what_was_noted_has_begun_and_nothing_else(tmp_path: Path) -> None:
    file = Beginnings(tmp_path / "begun")
    assert begun_among(tmp_path / "begun", ["one"]) == []
    file.note("one")
    file.note("three")
    assert begun_among(tmp_path / "begun", ["three", "two", "one"]) == ["three", "one"]


def test_the_file_does_not_grow_and_keeps_what_came_last(tmp_path: Path) -> None:
    path = tmp_path / "begun"
    file = Beginnings(path)
    size = path.stat().st_size
    for number in range(size // 8 + 10):
        file.note(str(number))
    assert path.stat().st_size == size
    assert begun_among(path, ["9", "10", str(size // 8 + 9)]) == ["10", str(size // 8 + 9)]


def test_a_file_that_was_not_finished_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "begun"
    path.touch()
    assert begun_among(path, ["one"]) is None


def test_without_room_for_the_file_there_is_none(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4, limits[1]))
    try:
        with pytest.raises(OSError):
            Beginnings(tmp_path / "begun")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert begun_among(tmp_path / "begun", ["one"]) is None


def test_what_a_killed_process_noted_is_there(tmp_path: Path) -> None:
    pid = os.fork()
    if not pid:
        Beginnings(tmp_path / "begun").note("one")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert begun_among(tmp_path / "begun", ["one", "two"]) == ["one"]


def test_its_file_is_closed_with_it(tmp_path: Path) -> None:
    open_files = len(os.listdir("/proc/self/fd"))
    for number in range(10):
        Beginnings(tmp_path / str(number))
    assert len(os.listdir("/proc/self/fd")) == open_files
