"""Where cached values are found by their keys: in the history, or in a storage that several histories share.

In a storage, each key is one small JSON object, written whole, that says where the value is and by what its bytes are recognised. Finding
a key never loads the value.
"""

from __future__ import annotations

import json
from contextlib import closing
from hashlib import sha256
from typing import NamedTuple, Protocol

from prefect_core import history
from prefect_core.errors import ObjectDamaged, ObjectMissing, ObjectNotFound
from prefect_core.results.kept import KeptValue
from prefect_core.storage import Storage, StorageSpec, resolve_storage
from prefect_core.storage.keys import file_name_of


class Entry(NamedTuple):
    """What is found under a key: the value's place, since when, until when (wall microseconds), and which run computed it."""

    kept: KeptValue
    expires_us: int | None
    origin: str


class Index(Protocol):
    """Values by key."""

    def find(self, key: str) -> Entry | None:
        """Return what is there, expired or not. Raises `ObjectDamaged`, `StorageError` or `HistoryError`."""
        ...

    def publish(self, key: str, kept: KeptValue, expires_us: int | None, origin: str) -> None:
        """Let a value be found that is durable. Raises `StorageError`."""
        ...


class HistoryIndex:
    """The history's own table; its rows are written in the transaction that announces the value."""

    def find(self, key: str) -> Entry | None:
        stored = history.current().stored()
        row = stored.cached(key)
        if row is None:
            return None
        try:
            origin = stored.task_run(row.run).name if row.run else ""
        except ObjectNotFound:
            origin = ""
        return Entry(KeptValue.of_row(row.result), row.expires_us, origin)

    def publish(self, key: str, kept: KeptValue, expires_us: int | None, origin: str) -> None:
        """Do nothing: it is found already."""


class StorageIndex:
    """Keys as objects of a storage. The values themselves have to be objects too."""

    def __init__(self, spec: StorageSpec) -> None:
        """Raises `ConfigurationError` for a place that can't be one."""
        self.storage: Storage = resolve_storage(spec)

    def find(self, key: str) -> Entry | None:
        try:
            with closing(self.storage.open(_name(key))) as stream:
                text = stream.read()
        except ObjectMissing:
            return None
        try:
            checked = json.loads(text)
            said = checked["entry"]
            if _checksum(said) != checked["sha256"]:
                raise ValueError("its checksum is another")
            if said["key"] != key:
                return None
            kept = KeptValue(0, said["serializer"], ())
            kept.storage, kept.object = str(said["storage"]), str(said["object"])
            kept.size, kept.sha256 = int(said["size"]), bytes.fromhex(said["sha256"])
            expires_us = None if said["expires_us"] is None else int(said["expires_us"])
        except (ValueError, KeyError, TypeError) as error:
            raise ObjectDamaged(f"The cache key {key!r} in {self.storage.url} is damaged: {error}") from error
        # One object is one result, however often it is found, so that what was computed from it is known to be so.
        known = history.current().stored().result_at(kept.storage, kept.object, kept.sha256)
        kept.is_new = kept.is_borrowed = known is None
        kept.result = history.current().new_key() if known is None else known
        return Entry(kept, expires_us, str(said.get("origin", "")))

    def publish(self, key: str, kept: KeptValue, expires_us: int | None, origin: str) -> None:
        said = {
            "key": key,
            "storage": kept.storage,
            "object": kept.object,
            "serializer": kept.serializer,
            "size": kept.size,
            "sha256": kept.sha256.hex(),
            "expires_us": expires_us,
            "origin": origin,
        }
        self.storage.write(_name(key), [json.dumps({"entry": said, "sha256": _checksum(said)}).encode()])


def _checksum(said: object) -> str:
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _name(key: str) -> str:
    return f"{file_name_of(key)}.json"


def index_at(key_storage: StorageSpec | None) -> Index:
    """Return the index in a storage, or that of the history."""
    return HistoryIndex() if key_storage is None else StorageIndex(key_storage)
