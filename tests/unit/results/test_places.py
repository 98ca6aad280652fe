"""Folders as storages, and which storage a path or a URL means."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from prefect_core import settings
from prefect_core.errors import ConfigurationError, ObjectMissing, StorageError
from prefect_core.storage import check_storage, default_storage, resolve_storage
from prefect_core.storage.local import LocalStorage
from prefect_core.storage.memory import MemoryStorage
from prefect_core.storage.remote import RemoteStorage


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
