"""What every storage does. A class per storage gives `make`, which returns it empty."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from prefect_core.errors import ObjectDamaged, ObjectMissing
from prefect_core.storage import CheckedReader, Storage, Written, read_checked, resolve_storage

MakeStorage = Callable[[], Storage]

LEADING_OUT = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../outside",
    "a/../../outside",
    "a/..",
    ".",
    "./a",
    "a/./b",
    "a//b",
    "a/",
    "a\\b",
    "..\\outside",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\x85b",
    "\ud800",
    "x" * 256,
    "é" * 128,
    "a/" * 512 + "a",
    "k" * 10_240,
    ".tmp-0123",
    "a/.tmp-0123",
    "file:///etc/passwd",
    "s3://bucket/key",
    b"bytes",
    None,
    7,
]


def content(storage: Storage, key: str) -> bytes:
    with closing(storage.open(key)) as stream:
        return stream.read()


def keys(storage: Storage, prefix: str = "") -> set[str]:
    return {found.key for found in storage.objects(prefix)}


def check_refusals(storage: Storage, key: Any) -> None:
    for call in (
        lambda: storage.write(key, [b"x"]),
        lambda: storage.open(key),
        lambda: storage.size(key),
        lambda: storage.delete(key),
    ):
        with pytest.raises(ValueError, match="storage key .* is refused: ") as refused:
            call()
        assert len(str(refused.value)) < 300


class StorageContract:
    """Inherit, and define the fixture `make`."""

    examples = 40

    @pytest.fixture
    def storage(self, make: MakeStorage) -> Iterator[Storage]:
        storage = make()
        assert keys(storage) == set()
        yield storage

    def test_it_is_a_storage_that_its_url_names(self, storage: Storage) -> None:
        assert isinstance(storage, Storage)
        storage.write("k", [b"x"])
        assert content(resolve_storage(storage.url), "k") == b"x"

    def test_what_was_written_is_read(self, storage: Storage) -> None:
        pieces = [b"ab", bytearray(b"cd"), memoryview(b"ef"), b""]
        assert storage.write("a/b/c.bin", pieces) == Written(6, hashlib.sha256(b"abcdef").digest())
        assert content(storage, "a/b/c.bin") == b"abcdef"
        assert storage.size("a/b/c.bin") == 6

    def test_pieces_may_come_from_a_generator(self, storage: Storage) -> None:
        storage.write("k", (bytes([number]) for number in range(3)))
        assert content(storage, "k") == b"\0\1\2"

    def test_an_empty_object_is_an_object(self, storage: Storage) -> None:
        assert storage.write("empty", []) == Written(0, hashlib.sha256().digest())
        assert content(storage, "empty") == b""
        assert storage.size("empty") == 0
        assert keys(storage) == {"empty"}

    def test_views_of_many_dimensions_are_written_as_bytes(self, storage: Storage) -> None:
        view = memoryview(bytes(range(24))).cast("I").cast("B").cast("i", (2, 3))
        storage.write("k", [view])
        assert content(storage, "k") == bytes(range(24))

    def test_a_large_object_is_whole(self, storage: Storage) -> None:
        data = os.urandom(1 << 20) * 11 + b"end"
        written = storage.write("large", [data[:10], memoryview(data)[10:]])
        assert written == Written(len(data), hashlib.sha256(data).digest())
        with closing(storage.open("large")) as stream:
            head, buffer = stream.read(3), bytearray(len(data) - 3)
            reader = CheckedReader(stream)
            assert reader.readinto(buffer) == len(buffer)
        assert head + buffer == data

    def test_a_second_write_replaces_the_first(self, storage: Storage) -> None:
        storage.write("k", [b"first, and longer"])
        storage.write("k", [b"second"])
        assert content(storage, "k") == b"second"
        assert keys(storage) == {"k"}

    def test_a_reader_of_the_earlier_object_is_not_given_parts_of_the_new_one(self, storage: Storage) -> None:
        storage.write("k", [b"1" * 100_000])
        with closing(storage.open("k")) as stream:
            first = stream.read(10)
            storage.write("k", [b"2" * 100_000])
            assert set(first + stream.read()) == {ord("1")}

    def test_two_readers_of_one_object_do_not_disturb_each_other(self, storage: Storage) -> None:
        storage.write("k", [bytes(range(256))])
        with closing(storage.open("k")) as one, closing(storage.open("k")) as other:
            assert one.read(100) == other.read(100)
            assert one.read() == other.read()

    def test_what_is_missing_is_missing(self, storage: Storage) -> None:
        storage.write("folder/k", [b"x"])
        for key in ("absent", "folder", "folder/absent", "absent/k", "folder/k/deeper"):
            with pytest.raises(ObjectMissing, match=f"no object '{key}'"):
                storage.open(key)
            assert storage.size(key) is None
            assert storage.delete(key) is False
        assert content(storage, "folder/k") == b"x"

    def test_what_was_deleted_is_gone(self, storage: Storage) -> None:
        storage.write("a/k", [b"x"])
        storage.write("a/l", [b"y"])
        assert storage.delete("a/k") is True
        assert storage.delete("a/k") is False
        assert storage.size("a/k") is None
        assert keys(storage) == {"a/l"}

    def test_objects_are_listed_by_prefix(self, storage: Storage) -> None:
        began = time.time()
        for key in ("a/x", "a/y/z", "ab", "b"):
            storage.write(key, [key.encode()])
        assert keys(storage) == {"a/x", "a/y/z", "ab", "b"}
        assert keys(storage, "a") == {"a/x", "a/y/z", "ab"}
        assert keys(storage, "a/") == {"a/x", "a/y/z"}
        assert keys(storage, "a/y/z") == {"a/y/z"}
        assert keys(storage, "c") == keys(storage, "c/d") == keys(storage, "../") == keys(storage, "b/") == set()
        (found,) = storage.objects("a/y")
        assert found.size == 5
        assert abs(found.modified_us / 1e6 - began) < 60

    @pytest.mark.parametrize(
        "key", ["a b", "ä/ö", "*", "a?b[c]", "50%", "%41", "#1", "a::b", "~", "-", "a..b", "...", "'\"`{}|<>^&$;"]
    )
    def test_odd_characters_in_a_key_stand_for_themselves(self, storage: Storage, key: str) -> None:
        storage.write("neighbour", [b"0"])
        storage.write(key, [b"1"])
        assert content(storage, key) == b"1"
        assert keys(storage) == {key, "neighbour"}
        assert keys(storage, key) == {key}
        assert storage.delete(key)
        assert keys(storage) == {"neighbour"}

    def test_names_of_the_greatest_length_are_taken(self, storage: Storage) -> None:
        for key in ("n" * 255, "/".join(["o" * 255] * 4)):
            storage.write(key, [b"x"])
            assert content(storage, key) == b"x"

    def test_a_key_that_leads_elsewhere_is_refused_by_every_method(self, storage: Storage) -> None:
        for key in LEADING_OUT:
            check_refusals(storage, key)
        assert keys(storage) == set()

    def test_an_object_is_read_and_checked(self, storage: Storage) -> None:
        written = storage.write("k", [b"right"])
        assert read_checked(storage, "k", written, lambda source: source.read()) == b"right"
        for other in (b"wrong", b"longer than that", b"short"[:3], b""):
            storage.write("k", [other])
            with pytest.raises(ObjectDamaged, match=r"The object 'k' in .* is damaged"):
                read_checked(storage, "k", written, lambda source: source.read())

    def test_nobody_sees_a_part_of_an_object_while_many_write_it(self, storage: Storage) -> None:
        versions = [bytes([number]) * 200_000 for number in range(1, 5)]
        storage.write("k", [versions[0]])
        over = threading.Event()
        seen: list[bytes] = []

        def look() -> None:
            while not over.is_set():
                # A store may refuse to go on when the object is replaced under its reader.
                with suppress(OSError):
                    seen.append(content(storage, "k"))

        reader = threading.Thread(target=look)
        writers = [threading.Thread(target=storage.write, args=("k", [version])) for version in versions]
        reader.start()
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(30)
        over.set()
        reader.join(30)
        assert content(storage, "k") in versions
        assert all(len(part) == 200_000 for part in seen)

    def test_nothing_is_left_of_a_write_whose_pieces_fail(self, storage: Storage) -> None:
        storage.write("k", [b"earlier"])

        def pieces() -> Iterator[bytes]:
            yield b"new"
            raise RuntimeError("no more")

        with pytest.raises(RuntimeError, match="no more"):
            storage.write("k", pieces())
        assert content(storage, "k") == b"earlier"
        assert keys(storage) == {"k"}

    def test_there_are_no_leftovers_without_a_kill(self, storage: Storage) -> None:
        storage.write("a/k", [b"x"])
        assert storage.clear_leftovers(time.time_ns() // 1000 + 60_000_000) == 0
        assert content(storage, "a/k") == b"x"

    def test_any_objects_are_kept_apart(self, make: MakeStorage) -> None:
        parts = st.text(
            st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"), min_size=1, max_size=20
        ).filter(lambda part: part not in {".", ".."} and not part.startswith(".tmp-"))
        # A key can't go through another one as its folder, which file systems don't have.
        paths = st.lists(parts, min_size=1, max_size=3).map(
            lambda path: "/".join(["d" + name for name in path[:-1]] + ["f" + path[-1]])
        )
        storage = make()

        @hypothesis_settings(
            max_examples=self.examples,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        )
        @given(st.dictionaries(paths, st.binary(max_size=100), max_size=4))
        def check(objects: dict[str, bytes]) -> None:
            written = {key: storage.write(key, [data]) for key, data in objects.items()}
            for key, data in objects.items():
                assert read_checked(storage, key, written[key], lambda source: source.read()) == data
            assert {found.key: found.size for found in storage.objects()} == {
                key: len(data) for key, data in objects.items()
            }
            for key in objects:
                assert storage.delete(key)

        check()
