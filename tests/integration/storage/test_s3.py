"""An S3-compatible server keeps the storage contract, and what happens when it is gone, mute, or cuts a connection."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import pytest

from prefect_core import settings
from prefect_core.errors import ObjectMissing, StorageError
from prefect_core.storage import Storage, read_checked
from prefect_core.storage.remote import RemoteStorage
from tests.contract.storage_contract import MakeStorage, StorageContract, content, keys
from tests.integration.storage.servers import BUCKET, Proxy, reached_through, s3_server

# What botocore and moto's libraries warn of is theirs; sockets of a dropped session are closed by the garbage collector.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with s3_server() as port:
        yield port


class TestS3(StorageContract):
    examples = 5

    @pytest.fixture
    def make(self, port: int) -> Iterator[MakeStorage]:
        with reached_through(port):
            yield lambda: RemoteStorage(f"s3://{BUCKET}/{uuid4()}/inner")


@pytest.fixture
def proxy(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    # Its own retries would hide ours.
    with reached_through(
        proxy.port, config_kwargs={"retries": {"max_attempts": 0}, "connect_timeout": 2, "read_timeout": 2}
    ):
        yield proxy
    proxy.be_gone()


@pytest.fixture
def storage(proxy: Proxy) -> Storage:
    return RemoteStorage(f"s3://{BUCKET}/{uuid4()}")


def test_a_store_that_is_gone_for_a_while_gets_the_object_when_it_comes_back(proxy: Proxy, storage: Storage) -> None:
    storage.write("before", [b"x"])
    proxy.be_gone()
    outcome: list[object] = []
    writer = threading.Thread(target=lambda: outcome.append(storage.write("k", [b"patient"])))
    with settings.temporary_settings(storage_retry_seconds=60):
        writer.start()
        proxy.was_tried.clear()
        proxy.come_back()
        writer.join(60)
    assert proxy.was_tried.is_set()
    assert len(outcome) == 1
    assert content(storage, "k") == b"patient"


def test_a_store_that_stays_away_is_a_clear_error_in_time(proxy: Proxy, storage: Storage) -> None:
    proxy.be_gone()
    with (
        settings.temporary_settings(storage_retry_seconds=0.5),
        pytest.raises(
            StorageError,
            match=rf"The storage s3://{BUCKET}/.* can't write 'k': .*tried .* See to it that it can be reached",
        ),
    ):
        storage.write("k", [b"x"])
    proxy.come_back()
    assert keys(storage) == set()


def test_a_store_that_says_nothing_is_not_waited_for(proxy: Proxy) -> None:
    storage = RemoteStorage(f"s3://{BUCKET}/{uuid4()}", stall_seconds=0.3)
    storage.write("k", [b"earlier"])
    proxy.be_gone()
    proxy.is_mute = True
    proxy.come_back()
    with (
        settings.temporary_settings(storage_retry_seconds=0),
        pytest.raises(StorageError, match="no answer for 0.3 seconds"),
    ):
        storage.write("k", [b"later"])
    proxy.be_gone()
    proxy.is_mute = False
    proxy.come_back()
    # The request may be on its way still, and then arrive whole.
    assert content(RemoteStorage(storage.url), "k") in {b"earlier", b"later"}


@pytest.mark.parametrize("cut_after", [0, 100_000, 60_000_000])
def test_nothing_is_seen_of_an_upload_that_was_cut_off(proxy: Proxy, cut_after: int) -> None:
    storage = RemoteStorage(f"s3://{BUCKET}/{uuid4()}")
    data = os.urandom(1 << 20) * 64
    storage.write("k", [b"earlier"])
    proxy.cut_after = cut_after
    with settings.temporary_settings(storage_retry_seconds=0), pytest.raises(StorageError, match="can't write 'k'"):
        RemoteStorage(storage.url, stall_seconds=2).write("k", [data])
    proxy.cut_after = None
    assert content(storage, "k") == b"earlier"
    assert keys(storage) == {"k"}


def test_a_large_object_goes_and_comes_in_parts(port: int) -> None:
    with reached_through(port):
        storage = RemoteStorage(f"s3://{BUCKET}/{uuid4()}")
        data = os.urandom(1 << 20) * 70
        written = storage.write("k", [memoryview(data)])
        buffer = bytearray(len(data))
        assert read_checked(storage, "k", written, lambda source: source.readinto(buffer)) == len(data)
        assert buffer == data


def test_a_bucket_that_is_not_there_is_a_clear_error(port: int) -> None:
    with reached_through(port):
        storage = RemoteStorage("s3://no-such-bucket/prefix")
        with pytest.raises(StorageError, match=r"can't write 'k': .*bucket.*\(tried once\)"):
            storage.write("k", [b"x"])
        with pytest.raises(ObjectMissing):
            storage.open("k")


def test_a_storage_works_on_in_a_forked_child(port: int) -> None:
    with reached_through(port):
        storage = RemoteStorage(f"s3://{BUCKET}/{uuid4()}")
        storage.write("parent", [b"x"])
        child = os.fork()
        if child == 0:
            code = 1
            try:
                storage.write("child", [b"y"])
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with closing(storage.open("child")) as stream:
            assert stream.read() == b"y"
