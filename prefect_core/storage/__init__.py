"""Where the bytes of stored results are: a local folder, the memory of this process, or any place that fsspec knows.

A storage keeps objects by key. It knows nothing of runs, values or formats; who writes an object keeps its size and checksum, and hands
them in to read it. What `write` has returned from is durable, under its final name, and whole.
"""

from __future__ import annotations

from prefect_core.storage.checked import CheckedReader, read_checked
from prefect_core.storage.interface import Storage, StoredObject, Written
from prefect_core.storage.keys import check_key
from prefect_core.storage.resolving import StorageSpec, check_storage, default_storage, resolve_storage

__all__ = [
    "CheckedReader",
    "Storage",
    "StorageSpec",
    "StoredObject",
    "Written",
    "check_key",
    "check_storage",
    "default_storage",
    "read_checked",
    "resolve_storage",
]
