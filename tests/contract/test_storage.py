"""Every storage that needs no server keeps the storage contract."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from prefect_core.storage import resolve_storage
from prefect_core.storage.remote import RemoteStorage
from tests.contract.storage_contract import MakeStorage, StorageContract


class TestLocal(StorageContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> MakeStorage:
        return lambda: resolve_storage(tmp_path / "not" / "yet there")


class TestMemory(StorageContract):
    @pytest.fixture
    def make(self) -> MakeStorage:
        return lambda: resolve_storage(f"memory://{uuid4()}/inner")


class TestServerThatShowsFilesWhileTheyAreWritten(StorageContract):
    """fsspec's local file system stands in for its file servers (SFTP, SMB): the way by a temporary name, to a real rename."""

    @pytest.fixture
    def make(self, tmp_path: Path) -> MakeStorage:
        return lambda: RemoteStorage(f"file://{tmp_path}/objects")
