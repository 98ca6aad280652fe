"""Where the bytes of stored results are: a local folder, the memory of this process, or any place that fsspec knows.

A storage keeps objects by key. It knows nothing of runs, values or formats; who writes an object keeps its size and checksum, and hands
them in to read it. What `write` has returned from is durable, under its final name, and whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_core.storage.interface import Storage, StorageSpec, StoredObject, Written, check_storage

if TYPE_CHECKING:
    from prefect_core.storage.checked import CheckedReader, read_checked
    from prefect_core.storage.keys import check_key
    from prefect_core.storage.resolving import default_storage, resolve_storage

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

# What only a run that stores something needs is loaded then.
_HOMES = {
    "CheckedReader": "checked",
    "check_key": "keys",
    "default_storage": "resolving",
    "read_checked": "checked",
    "resolve_storage": "resolving",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # as the face of prefect_core does

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
