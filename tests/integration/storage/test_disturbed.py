"""The disk fails while an object is stored: a clear error, nothing half-written, the earlier object intact; or it is made good."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from prefect_core import settings
from prefect_core.errors import ObjectDamaged, StorageError
from prefect_core.serializers import PickleSerializer
from prefect_core.storage import Written, read_checked
from prefect_core.storage.local import LocalStorage
from tests.integration.history.test_disturbed import needs_mount, small_disk
from tests.integration.storage import program
from tests.integration.storage.program import EARLIER, KEY, NEW

needs_strace = pytest.mark.skipif(
    program.STRACE is None, reason="strace, which makes system calls fail, is not installed"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A storage with an earlier object."""
    folder = tmp_path / "s"
    folder.mkdir()
    program.write_earlier(folder)
    return folder


FAILING = [
    ("write", "EIO", "Input/output error"),
    ("write", "ENOSPC", "No space left on device"),
    ("fsync", "EIO", "Input/output error"),
    ("rename,renameat,renameat2", "EIO", "Input/output error"),
]


@needs_strace
@pytest.mark.parametrize(("calls", "error", "reason"), FAILING)
def test_a_call_that_keeps_failing_is_a_clear_error(folder: Path, calls: str, error: str, reason: str) -> None:
    outcome = program.write(folder, "--retry", 0.3, inject=f"{calls}:error={error}:when=1+")
    assert outcome.word == "failed", outcome.errors
    assert f"The storage file://{folder} can't write '{KEY}': {reason} (tried " in outcome.reason
    assert "PREFECT_CORE_STORAGE_RETRY_SECONDS" in outcome.reason
    assert program.temporary_files(folder) == []
    assert program.found(folder) == EARLIER


@needs_strace
@pytest.mark.parametrize(("calls", "error", "reason"), FAILING)
@pytest.mark.parametrize("count", [1, 2])
def test_a_call_that_fails_once_is_made_good(folder: Path, calls: str, error: str, reason: str, count: int) -> None:
    outcome = program.write(folder, "--retry", 5, inject=f"{calls}:error={error}:when={count}")
    assert outcome.word == "acked", outcome.reason
    assert program.temporary_files(folder) == []
    assert program.found(folder) == NEW


@needs_strace
def test_a_file_that_can_not_be_made_durable_is_not_acknowledged_and_not_seen(folder: Path) -> None:
    # The first two are those of the folders that the root and "run" are in.
    for count in (1, 2, 3):
        outcome = program.write(folder, inject=f"fsync:error=EIO:when={count}")
        assert "Input/output error (tried once)" in outcome.reason
        assert program.temporary_files(folder) == []
        assert program.found(folder) == EARLIER


@needs_strace
def test_a_name_that_can_not_be_made_durable_is_not_acknowledged(folder: Path) -> None:
    outcome = program.write(folder, inject="fsync:error=EIO:when=4")
    assert "Input/output error (tried once)" in outcome.reason
    assert program.temporary_files(folder) == []
    assert program.found(folder) == NEW


@needs_mount
def test_a_full_disk_keeps_the_earlier_object_and_no_part_of_the_new_one(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        storage = LocalStorage(disk / "s")
        storage.write(KEY, [b"\1" * program.SIZE])
        with (
            settings.temporary_settings(storage_retry_seconds=0.2),
            pytest.raises(
                StorageError,
                match=r"can't write 'run/object': No space left on device \(tried .* Free some space there",
            ),
        ):
            storage.write(KEY, [bytes(9 << 20)])
        assert program.temporary_files(disk) == []
        assert program.found(disk / "s") == EARLIER


@needs_mount
def test_a_full_disk_that_is_emptied_in_time_gets_the_object(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        stuffing = disk / "stuffing"
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        stuffing.write_bytes(bytes(free - 8192))
        storage = LocalStorage(disk / "s")
        outcome: list[Written] = []
        writer = threading.Thread(target=lambda: outcome.append(storage.write(KEY, [b"\2" * program.SIZE])))
        with settings.temporary_settings(storage_retry_seconds=30):
            writer.start()
            stuffing.unlink()
            writer.join(30)
        assert [written.size for written in outcome] == [program.SIZE]
        assert program.found(disk / "s") == NEW


@needs_mount
def test_a_read_only_folder_is_refused_at_once(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        storage = LocalStorage(disk / "s")
        storage.write(KEY, [b"\1" * program.SIZE])
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.raises(
            StorageError, match=r"can't write 'run/object': Read-only file system \(tried once\)\. Make it writable"
        ):
            storage.write(KEY, [b"\2"])
        assert program.found(disk / "s") == EARLIER
        with pytest.raises(StorageError, match=r"can't delete 'run/object': Read-only file system"):
            storage.delete(KEY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else, whom a folder can be closed to")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_folder_of_somebody_else_is_refused_at_once(folder: Path) -> None:
    folder.parent.chmod(0o755)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            LocalStorage(folder).write(KEY, [b"\2"])
        except StorageError as error:
            code = 0 if "Permission denied (tried once). Make it readable and writable" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Damage.


def disturb(path: Path, other: Path, dice: random.Random) -> None:
    """Flip a bit, cut the file, or put something else in its place; never what was there before."""
    content = path.read_bytes()
    kind = dice.choice(["flip", "cut", "grow", "swap", "zeros"])
    if kind == "flip":
        place = dice.randrange(len(content))
        content = content[:place] + bytes([content[place] ^ 1 << dice.randrange(8)]) + content[place + 1 :]
    elif kind == "cut":
        content = content[: dice.randrange(len(content))]
    elif kind == "grow":
        content += dice.randbytes(dice.randrange(1, 5000))
    elif kind == "swap":
        content = other.read_bytes()
    else:
        start = dice.randrange(len(content))
        content = content[:start] + bytes(len(content) - start) + b"\1"
    path.write_bytes(content)


def values(dice: random.Random) -> Iterator[object]:
    import numpy as np

    yield dice.randbytes(dice.randrange(1, 50_000))
    yield {"words": [str(dice.random()) for _ in range(dice.randrange(200))]}
    yield {"array": np.frombuffer(dice.randbytes(80_000)), "small": np.arange(dice.randrange(1, 9))}


def damage(folder: Path, seed: int, trials: int) -> None:
    """Each damage is noticed before anything of the object is unpickled into a value that somebody gets."""
    dice = random.Random(seed)
    storage, serializer = LocalStorage(folder), PickleSerializer()
    for trial in range(trials):
        value = dice.choice(list(values(dice)))
        written = storage.write("k", serializer.dump(value))
        storage.write("other", serializer.dump(["other", trial, dice.random()]))
        disturb(folder / "k", folder / "other", dice)
        with pytest.raises(ObjectDamaged, match=r"The object 'k' in file://.* is damaged"):
            read_checked(storage, "k", written, serializer.load)
        with closing(storage.open("other")) as stream:
            assert serializer.load(stream)[1] == trial


def test_fifty_damaged_objects_are_all_noticed(tmp_path: Path) -> None:
    damage(tmp_path, seed=20261125, trials=50)


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_campaign_of_a_thousand_damaged_objects(tmp_path: Path) -> None:
    damage(tmp_path, seed=3, trials=1000)
    print("\ncampaign: 1,000 flips, cuts and swaps, all noticed")
