"""The parts of storage: reading with a checksum, trying again, a limit in time, keys, URLs."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given
from hypothesis import strategies as st

from prefect_core.errors import ObjectDamaged, StorageError
from prefect_core.storage import (
    CheckedReader,
    Written,
    check_key,
    read_checked,
    time_limit,
    uploads,
)
from prefect_core.storage.chunks import CHUNK, write_chunks
from prefect_core.storage.memory import MemoryStorage
from prefect_core.storage.persistence import is_passing, persistently
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
        (RuntimeError(), False),
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


# Servers that show files while they are written.


class Server(LocalFileSystem):
    """Moves a file only to a place that is free; says so, or does not."""

    def __init__(self, says_so: bool) -> None:
        super().__init__(skip_instance_cache=True)
        self._says_so = says_so

    def mv_file(self, path1: str, path2: str, **options: Any) -> None:
        if not os.path.exists(path2):
            os.rename(path1, path2)
        elif self._says_so:
            raise FileExistsError(path2)


@pytest.mark.parametrize("says_so", [True, False])
def test_a_server_that_does_not_replace_gets_the_earlier_object_out_of_the_way(tmp_path: Path, says_so: bool) -> None:
    for content in (b"first", b"second"):
        assert uploads.write_and_move(Server(says_so), f"{tmp_path}/k", [content], lambda: None) == written(content)
        assert (tmp_path / "k").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_nothing_is_left_of_a_write_that_is_given_up(tmp_path: Path) -> None:
    def moved() -> None:
        raise Abandoned

    (tmp_path / "k").write_bytes(b"earlier")
    with pytest.raises(Abandoned):
        uploads.write_and_move(Server(True), f"{tmp_path}/k", [b"new"], moved)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"k": b"earlier"}
