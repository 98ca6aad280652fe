"""The disk fails while a process records: it ends in time, says what is lost, and marks the history."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prefect_core import history
from prefect_core.errors import HistoryError
from prefect_core.history.sqlite.store import SqliteStore
from tests.integration.history import program

WRITES = "pwrite64"
SYNCS = "fsync,fdatasync"
needs_strace = pytest.mark.skipif(
    program.STRACE is None, reason="strace, which makes system calls fail, is not installed"
)


def can_mount() -> bool:
    """Tell whether this user may mount file systems."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    mask = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return os.geteuid() == 0 and bool(int(mask, 16) >> 21 & 1)


needs_mount = pytest.mark.skipif(not can_mount(), reason="only a user with CAP_SYS_ADMIN may mount a small disk")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of a few pages."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fail_once(home: Path, calls: str, error: str, count: int) -> None:
    """One failing call is made good by trying again, unless it comes while the history is opened."""
    SqliteStore(home).close()
    outcome = program.record(home, "--runs", 60, "--checkpoint", 30, inject=f"{calls}:error={error}:when={count}")
    if "PREFECT_CORE_HOME" in outcome.errors:
        assert outcome.code != 0
        program.judge(home, outcome)
    else:
        program.judge(home, outcome, all_acked=True)


def fail_for_ever(home: Path, calls: str, error: str, count: int) -> None:
    """Where nothing can be written any more, the program goes on to its end and every flush says so."""
    SqliteStore(home).close()
    outcome = program.record(home, "--runs", 60, "--retry", 0.2, inject=f"{calls}:error={error}:when={count}+")
    program.judge(home, outcome)
    if "PREFECT_CORE_HOME" in outcome.errors and "done" not in outcome.lines:
        assert outcome.code != 0
    else:
        assert "done" in outcome.lines, outcome.errors
        assert outcome.said("lost") or len(outcome.said("acked")) == 60
        assert not outcome.said("lost") or "incomplete" in outcome.errors


@needs_strace
@pytest.mark.parametrize("count", sorted(random.Random(7).sample(range(1, 20), 3)))
@pytest.mark.parametrize(("calls", "error"), [(WRITES, "ENOSPC"), (SYNCS, "EIO")])
def test_a_write_that_fails_once_is_made_good(home: Path, calls: str, error: str, count: int) -> None:
    fail_once(home, calls, error, count)


@needs_strace
@pytest.mark.parametrize(("calls", "error", "count"), [(WRITES, "ENOSPC", 20), (SYNCS, "EIO", 5)])
def test_a_disk_that_stays_broken_never_stops_the_program(home: Path, calls: str, error: str, count: int) -> None:
    fail_for_ever(home, calls, error, count)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@needs_strace
@pytest.mark.parametrize(("calls", "error"), [(WRITES, "ENOSPC"), (WRITES, "EIO"), (SYNCS, "EIO")])
def test_campaign_of_failing_calls(tmp_path: Path, calls: str, error: str) -> None:
    most = 24 if calls == SYNCS else 160
    once, for_ever = range(1, most, max(1, most // 50)), range(1, most, max(1, most // 20))
    for count in once:
        fail_once(tmp_path / f"once{count}", calls, error, count)
    for count in for_ever:
        fail_for_ever(tmp_path / f"ever{count}", calls, error, count)
    print(f"\ncampaign: {calls} {error}: {len(once)} failed once, {len(for_ever)} for ever")


@needs_mount
def test_a_full_disk_marks_the_history_incomplete_once_there_is_space(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "600k") as disk:
        outcome = full_disk(disk, filler=0)
        assert outcome.said("lost")


def full_disk(disk: Path, filler: int) -> program.Outcome:
    """Record on a nearly full disk, make space half-way, and judge what is left."""
    home = disk / "home"
    store = SqliteStore(home)
    store.close()
    stuffing = disk / "stuffing"
    with stuffing.open("wb") as file:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        file.write(b"\0" * max(0, free - 100_000 - filler * 4096))
    process = subprocess.Popen(
        program.command("--runs", 400, "--every", 40, "--retry", 0.1, "--hold"),
        cwd=program.ROOT,
        env=program.environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if lines[-1] == "half":
            stuffing.unlink()
            break
    rest, errors = process.communicate("go on\n" if process.poll() is None else None, timeout=30)
    outcome = program.Outcome(process.returncode, [*lines, *rest.splitlines()], errors)
    if not outcome.lines:
        # No space even to open: refused before anything was recorded.
        assert outcome.code != 0
        assert "PREFECT_CORE_HOME" in errors
        return outcome
    assert outcome.code == 0, errors
    _judge_after_full_disk(home, outcome)
    return outcome


def _judge_after_full_disk(home: Path, outcome: program.Outcome) -> None:
    store = SqliteStore(home)
    try:
        lost = outcome.said("lost")
        stats = store.stats()
        assert (stats.incomplete_since_us is not None) == bool(lost), outcome.lines
        assert (stats.missing_rows > 0) == bool(lost)
        known = {str(row.id) for row in store.task_runs()}
        assert set(outcome.said("acked")) <= known
        assert outcome.lines[-1] == "done"
        if lost:
            assert "incomplete" in outcome.errors
            assert "can't be written" in lost[0]
        assert not [problem for problem in store.check() if "amaged" in problem]
    finally:
        store.close()


@pytest.mark.faults
@pytest.mark.timeout(900)
@needs_mount
def test_campaign_of_full_disks(tmp_path: Path) -> None:
    outcomes = []
    for filler in range(-20, 80, 2):
        with small_disk(tmp_path / f"disk{filler}", "1m") as disk:
            outcomes.append(full_disk(disk, filler))
    lost = sum(bool(outcome.said("lost")) for outcome in outcomes)
    refused = sum(not outcome.lines for outcome in outcomes)
    print(f"\ncampaign: full disk: {len(outcomes)} runs, {refused} refused at the start, {lost} lost rows and said so")
    assert lost
    assert refused


@needs_mount
def test_a_read_only_home_is_refused_before_user_code_starts(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "600k") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(HistoryError, match=r"Read-only file system.*PREFECT_CORE_HOME"):
            history.open_store(disk / "home")


@needs_mount
def test_a_home_that_became_read_only_is_refused(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "600k") as disk:
        SqliteStore(disk).close()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(HistoryError, match="PREFECT_CORE_HOME"):
            history.open_store(disk)
