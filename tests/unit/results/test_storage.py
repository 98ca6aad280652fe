"""The parts of storage: reading with a checksum, trying again, a limit in time, keys, URLs."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
import threading
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_core import settings
from prefect_core.errors import ConfigurationError, ObjectDamaged, ObjectMissing, StorageError
from prefect_core.storage import (
    CheckedReader,
    Written,
    check_key,
    check_storage,
    default_storage,
    read_checked,
    resolve_storage,
    time_limit,
)
from prefect_core.storage.chunks import CHUNK, write_chunks
from prefect_core.storage.local import LocalStorage
from prefect_core.storage.memory import MemoryStorage
from prefect_core.storage.persistence import is_passing, persistently
from prefect_core.storage.remote import RemoteStorage
from prefect_core.storage.time_limit import Abandoned, within
from prefect_core.testing import FakeClock
from tests.unit.results.streams import Trickling


def written(data: bytes) -> Written:
    return Written(len(data), hashlib.sha256(data).digest())


# Reading with a checksum.


@given(st.binary(max_size=200), st.lists(st.integers(-1, 70)), st.integers(1, 64))
def test_any_way_of_reading_gives_the_bytes_and_their_checksum(data: bytes, sizes: list[int], step: int) -> None:
    for expected in (None, written(data)):
        reader, got = CheckedReader(Trickling(data, step), expected), b""
        for size in sizes:
            if size % 2:
                got += reader.read(size)
            else:
                buffer = bytearray(size)
                got += buffer[: reader.readinto(buffer)]
        assert got == data[: len(got)]
        reader.verify(*written(data))


@pytest.mark.parametrize("other", [b"right!", b"righ", b"", b"wrong", b"Right"])
def test_the_call_that_reads_the_last_byte_notices_damage(other: bytes) -> None:
    expected = written(b"right")
    readings: list[Any] = [
        lambda reader: reader.read(),
        lambda reader: [reader.read(1) for _ in range(7)],
        lambda reader: reader.read(1 << 60),
        lambda reader: reader.readinto(bytearray(5)) and reader.readinto(bytearray(1)),
        lambda reader: reader.verify(*expected),
    ]
    for reading in readings:
        with pytest.raises(ObjectDamaged, match="The stored object is damaged: "):
            reading(CheckedReader(BytesIO(other), expected))


def test_an_object_whose_loader_stops_early_is_checked_to_its_end() -> None:
    storage = MemoryStorage("early")
    about = storage.write("k", [b"head", b"tail"])
    assert read_checked(storage, "k", about, lambda source: source.read(4)) == b"head"
    storage.write("k", [b"head", b"TAIL"])
    with pytest.raises(ObjectDamaged):
        read_checked(storage, "k", about, lambda source: source.read(4))


def test_what_a_loader_raises_passes_if_the_bytes_are_right() -> None:
    storage = MemoryStorage("raising")
    about = storage.write("k", [b"data"])
    calls = []

    def load(source: object) -> None:
        calls.append(source)
        raise FileNotFoundError("of the user's own")

    with pytest.raises(FileNotFoundError, match="of the user's own"):
        read_checked(storage, "k", about, load)
    assert len(calls) == 1
    storage.write("k", [b"Data"])
    with pytest.raises(ObjectDamaged):
        read_checked(storage, "k", about, load)


def test_reading_that_fails_on_its_way_begins_anew(stepped_clock: Any) -> None:
    class Flaky(MemoryStorage):
        opened = 0

        def open(self, key: str) -> Any:
            self.opened += 1
            return super().open(key) if self.opened == 3 else Cut(b"da")

    class Cut(BytesIO):
        def readinto(self, buffer: Any, /) -> int:
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

        read = readinto  # type: ignore[assignment]  # it raises as well

    storage = Flaky("flaky")
    about = storage.write("k", [b"data"])
    assert read_checked(storage, "k", about, lambda source: source.read()) == b"data"
    assert storage.opened == 3
    assert len(stepped_clock.slept) == 2


# Writing in chunks.


@given(st.lists(st.integers(0, 3 * CHUNK), max_size=4), st.booleans())
def test_chunks_have_all_the_bytes_and_a_handy_size(sizes: list[int], many: bool) -> None:
    pieces = [os.urandom(size) for size in sizes] + [b"small"] * (300 if many else 0)
    chunks: list[bytes] = []
    about = write_chunks(list(pieces), lambda chunk: chunks.append(bytes(chunk)))
    assert b"".join(chunks) == b"".join(pieces)
    assert about == written(b"".join(pieces))
    assert all(0 < len(chunk) <= CHUNK + 32_768 for chunk in chunks)
    assert len(chunks) <= sum(map(len, pieces)) // CHUNK + 2 * len(sizes) + 1


# Trying again.


def named(name: str, **fields: Any) -> Exception:
    return type(name, (Exception,), fields)("said")


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (OSError(errno.EIO, "x"), True),
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EBUSY, "x"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OSError("said by a library"), True),
        (named("EndpointConnectionError"), True),
        (named("ClientResponseError", status=503), True),
        (named("HttpError", code=429), True),
        (OSError(errno.EACCES, "x"), False),
        (OSError(errno.EROFS, "x"), False),
        (OSError(errno.ENOENT, "x"), False),
        (FileNotFoundError("x"), False),
        (PermissionError("x"), False),
        (named("NoCredentialsError"), False),
        (named("ClientAuthenticationError"), False),
        (named("ClientResponseError", status=403), False),
        (named("HttpResponseError", status_code=404), False),
        (ValueError(), False),
        (NotImplementedError(), False),
        (ImportError(), False),
    ],
    ids=repr,
)
def test_trouble_that_passes_is_told_from_trouble_that_stays(error: Exception, passing: bool) -> None:
    assert is_passing(error) is passing


def test_what_passes_is_tried_again_with_growing_pauses(stepped_clock: Any) -> None:
    failures = iter([OSError(errno.EIO, "bad"), named("ServerDisconnectedError"), TimeoutError("late")])

    def action() -> str:
        for failure in failures:
            raise failure
        return "done"

    assert persistently("file:///x", "write 'k'", action) == "done"
    assert stepped_clock.slept == [0.05, 0.1, 0.2]


def test_what_stays_is_an_error_at_once(stepped_clock: Any) -> None:
    def action() -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(StorageError) as raised:
        persistently("file:///x", "write 'k'", action)
    assert str(raised.value) == (
        "The storage file:///x can't write 'k': Permission denied (tried once). Make it readable and writable for this user, "
        "or choose another place (result_storage=, PREFECT_CORE_RESULTS_STORAGE)."
    )
    assert isinstance(raised.value.__cause__, PermissionError)
    assert stepped_clock.slept == []


def test_trying_again_has_a_bound() -> None:
    def action() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        FakeClock(jumps=True),
        pytest.raises(
            StorageError,
            match=r"No space left on device \(tried 15 times in 10\.0 s\)\. Free some space there.* how long it is tried",
        ),
    ):
        persistently("file:///x", "write 'k'", action)


# A limit in time.


def test_each_sign_of_life_gives_work_its_time_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []

    class Watched(SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            waits.append(timeout)
            return super().get(block, timeout)

    monkeypatch.setattr(time_limit, "SimpleQueue", Watched)

    def work(moved: Any) -> int:
        for _ in range(5):
            moved()
        return 7

    assert within(20, work) == 7
    assert waits == [20] * 6


def test_work_that_gives_none_is_given_up_and_told_so() -> None:
    go_on, outcome = threading.Event(), list[BaseException]()
    told = threading.Event()

    def work(moved: Any) -> None:
        go_on.wait(30)
        try:
            moved()
        except BaseException as error:
            outcome.append(error)
            told.set()
            raise

    with pytest.raises(TimeoutError, match=r"no answer for 0\.05 seconds"):
        within(0.05, work)
    go_on.set()
    assert told.wait(30)
    assert isinstance(outcome[0], Abandoned)


def test_what_work_raises_comes_out() -> None:
    def work(moved: Any) -> None:
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        within(5, work)


# Keys.


@given(st.text(max_size=60))
def test_a_key_that_passes_leads_to_a_file_below_the_root(key: str) -> None:
    try:
        check_key(key)
    except ValueError as refused:
        assert "is refused: " in str(refused)
        return
    root = "/root/folder"
    path = os.path.normpath(f"{root}/{key}")
    assert path == f"{root}/{key}"
    assert path.startswith(f"{root}/")


@pytest.mark.parametrize("key", ["a", "a/b", "ä", "a b", "x" * 255, "...", "a..b", "..a", "%2e%2e", "~root"])
def test_keys_that_lead_nowhere_else_pass(key: str) -> None:
    assert check_key(key) == key


# Local folders.


def test_folders_and_files_are_for_this_user_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        LocalStorage(tmp_path / "a" / "b").write("c/d/k", [b"x"])
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", *(tmp_path / "a").rglob("*"))}
    assert modes == {"a": 0o700, "b": 0o700, "c": 0o700, "d": 0o700, "k": 0o600}


def test_no_symbolic_link_leads_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "folder").symlink_to(tmp_path)
    (root / "file").symlink_to(tmp_path / "secret")
    storage = LocalStorage(root)
    for key in ("folder/secret", "file"):
        assert storage.size(key) is None
        with pytest.raises(ObjectMissing):
            storage.open(key)
    assert list(storage.objects()) == list(storage.objects("folder/")) == []
    with pytest.raises(
        StorageError,
        match=r"'folder' is a file, where a folder of the storage should be \(tried once\)\. Choose another key",
    ):
        storage.write("folder/secret", [b"mine"])
    assert storage.delete("folder/secret") is False
    storage.write("file", [b"mine"])
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_a_pipe_is_no_object_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    storage = LocalStorage(tmp_path)
    with pytest.raises(ObjectMissing):
        storage.open("pipe")
    assert storage.size("pipe") is None
    assert list(storage.objects()) == []


def test_leftovers_are_no_objects_and_go_when_they_are_old(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("run/k", [b"x"])
    for number, name in enumerate((".tmp-1", "run/.tmp-2"), 1):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (number, number))
    assert [found.key for found in storage.objects()] == ["run/k"]
    assert storage.clear_leftovers(1_500_000) == 1
    assert storage.clear_leftovers(2_500_000) == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["k"]


def test_a_file_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("a", [b"x"])
    with pytest.raises(
        StorageError, match=r"can't write 'a/b': 'a' is a file, where a folder of the storage should be"
    ):
        storage.write("a/b", [b"y"])
    storage.write("c/d", [b"x"])
    with pytest.raises(StorageError, match=r"can't write 'c': Is a directory \(tried once\)\. Choose another key"):
        storage.write("c", [b"y"])
    with pytest.raises(StorageError, match="can't write 'k': Not a directory"):
        LocalStorage(tmp_path / "a").write("k", [b"x"])
    assert not list(tmp_path.rglob(".tmp-*"))


# Which storage is meant.


@pytest.mark.parametrize("name", ["plain", "with space", "50%", "a#b?c", "ü", os.fsdecode(b"not utf \xff")])
def test_the_url_of_a_folder_leads_to_it(tmp_path: Path, name: str) -> None:
    storage = resolve_storage(tmp_path / name)
    assert storage.url.isascii()
    assert storage is resolve_storage(storage.url) is resolve_storage(str(tmp_path / name))
    storage.write("k", [b"x"])
    assert (tmp_path / name / "k").read_bytes() == b"x"


def test_a_path_is_made_absolute_and_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    same = {
        resolve_storage(spec).url
        for spec in ("x", "./y/../x", "~/x", Path("x"), f"local://{tmp_path}/x", f"file://localhost{tmp_path}/x")
    }
    assert same == {f"file://{tmp_path}/x"}


def test_other_urls_give_other_kinds() -> None:
    assert resolve_storage("memory://some/name/").url == "memory://some/name"
    assert isinstance(resolve_storage("memory://"), MemoryStorage)
    remote = resolve_storage("ftp://host/folder/")
    assert isinstance(remote, RemoteStorage)
    assert remote is resolve_storage("ftp://host/folder")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense://x", "nonsense://x can't be used: .*nonsense"),
        ("file://elsewhere/x", "names a folder of another machine"),
        ("ftp://me:hunter2@host/x", r"ftp://me:\.\.\.@host/x has a password in its URL, which is kept in the history"),
    ],
)
def test_a_url_that_can_not_work_says_why(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as raised:
        resolve_storage(url)
    assert "hunter2" not in str(raised.value)


def test_a_store_whose_library_is_missing_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ConfigurationError, match=r"The storage gs://bucket can't be used: .*gcsfs"):
        resolve_storage("gs://bucket")


def test_what_is_no_storage_is_refused_at_decoration() -> None:
    for spec in (None, "s3://later", Path("x"), MemoryStorage()):
        assert check_storage(spec) is spec
    for wrong in ("", 7, b"x", object(), MemoryStorage):
        with pytest.raises(TypeError, match="Expected a folder, a URL or a storage for 'result_storage'; got"):
            check_storage(wrong)


def test_results_that_name_none_lie_in_the_home(home: Path) -> None:
    assert default_storage().url == f"file://{home}/storage"
    with settings.temporary_settings(results_storage="memory://default"):
        assert default_storage().url == "memory://default"
