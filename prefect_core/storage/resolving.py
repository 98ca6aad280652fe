"""Which storage is meant by a path or a URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from prefect_core import settings
from prefect_core.errors import ConfigurationError
from prefect_core.storage.interface import Storage, StorageSpec, check_storage
from prefect_core.storage.local import LocalStorage, path_of_url
from prefect_core.storage.memory import MemoryStorage
from prefect_core.storage.remote import RemoteStorage

_by_url: dict[str, Storage] = {}


def resolve_storage(spec: StorageSpec) -> Storage:
    """Return the storage for a folder or a URL; the same one for equal URLs. Raises `ConfigurationError` or `TypeError`."""
    check_storage(spec)
    if not isinstance(spec, str | Path):
        return spec
    storage = _made(str(spec))
    return _by_url.setdefault(storage.url, storage)


def default_storage() -> Storage:
    """Return the storage of results that name none: that of the setting `results_storage`, or the folder `storage` in the home."""
    now = settings.current()
    return resolve_storage(now.results_storage or now.home / "storage")


def _made(spec: str) -> Storage:
    protocol, separator, rest = spec.partition("://")
    if not separator:
        return LocalStorage(spec)
    if protocol in {"file", "local"}:
        try:
            return LocalStorage(path_of_url(spec))
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
    if protocol == "memory":
        return MemoryStorage(rest)
    _check_url(spec, protocol)
    return RemoteStorage(spec)


def _check_url(url: str, protocol: str) -> None:
    if urlsplit(url).password:
        place = url.replace(f":{urlsplit(url).password}@", ":...@")
        raise ConfigurationError(
            f"The storage {place} has a password in its URL, which is kept in the history. Leave it out, and put it where fsspec looks: in "
            "~/.config/fsspec, or in the variables of the store's own library."
        )
    try:
        from fsspec import get_filesystem_class  # loads much, and most storages are folders
    except ImportError as error:
        raise ConfigurationError(
            f"The storage {url} needs fsspec: install it with `pip install 'prefect_core[remote]'`."
        ) from error
    try:
        get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(f"The storage {url} can't be used: {error}") from error
