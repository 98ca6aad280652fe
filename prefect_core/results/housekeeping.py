"""Looking after stored results: which are dropped, and how the objects of dropped ones leave their storages.

The history drops a result and dooms its object in one transaction. `sweep` deletes doomed objects after that, and takes each off the list
only when it is gone: killed anywhere in between, the next sweep goes on. An object that another result names by now stays.

A process that was killed between writing an object and recording its result leaves an *orphan*, an object that no result names.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from prefect_core.crash_points import crash_point
from prefect_core.errors import ConfigurationError, ObjectNotFound, StorageError
from prefect_core.settings import current as settings
from prefect_core.storage import StoredObject, default_storage, resolve_storage
from prefect_core.storage.local import path_of_url

if TYPE_CHECKING:
    from prefect_core.history import HistoryStore
    from prefect_core.history.stored import DoomedRow, ResultRow
    from prefect_core.storage import Storage

T = TypeVar("T")

_AT_ONCE = 500
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_OUR_KEY = re.compile(rf"({_UUID})/{_UUID}\.[\w.]+")
"""A key that names a root flow run and a run of it: nobody but that attempt of the run ever writes to it."""


class Retention(NamedTuple):
    """Which results are to be dropped: those made before a moment that are larger than so much, and the oldest until the rest fits.

    None says nothing; `keep_total` is asked after the other two, which are asked together.
    """

    before_us: int | None = None
    larger_than: int | None = None
    keep_total: int | None = None

    def chosen(self, newest_first: list[ResultRow], in_use: Collection[int]) -> list[ResultRow]:
        """Return the results to drop, newest first; what is in use stays, and counts."""
        free = [row for row in newest_first if row.key not in in_use]
        gone = {row.key for row in free if self._is_meant(row)}
        if self.keep_total is not None:
            total = sum(row.size for row in newest_first if row.key not in gone)
            for row in reversed(free):
                if total <= self.keep_total:
                    break
                if row.key not in gone:
                    gone.add(row.key)
                    total -= row.size
        return [row for row in free if row.key in gone]

    def _is_meant(self, row: ResultRow) -> bool:
        if self.before_us is None and self.larger_than is None:
            return False
        is_old = self.before_us is None or row.created_us < self.before_us
        return is_old and (self.larger_than is None or row.size > self.larger_than)


class Swept(NamedTuple):
    """How many objects were deleted, and what kept others from being deleted: a sentence for each storage."""

    deleted: int
    problems: list[str]


def sweep(store: HistoryStore) -> Swept:
    """Delete the objects of dropped results, storage by storage."""
    deleted = 0
    problems: dict[str, str] = {}
    while rows := store.doomed(_AT_ONCE, problems):
        url = rows[0].storage
        rows = [row for row in rows if row.storage == url]
        try:
            deleted += _delete(store, resolve_storage(url), rows)
        except (StorageError, ConfigurationError) as error:
            problems[url] = f"Objects in {url} could not be deleted; the next prune tries again. {error}"
    return Swept(deleted, list(problems.values()))


def _delete(store: HistoryStore, storage: Storage, rows: list[DoomedRow]) -> int:
    done: list[DoomedRow] = []
    deleted = 0
    try:
        stays = store.named_objects(rows[0].storage, [row.object for row in rows]) | _written_again(storage, rows)
        for row in rows:
            if row.object not in stays:
                deleted += storage.delete(row.object)
                crash_point("sweep.deleted")
            done.append(row)
    finally:
        store.forget_doomed(done)
    return deleted


def _written_again(storage: Storage, rows: list[DoomedRow]) -> set[str]:
    """Return the objects that somebody has written since under the same name, and may be about to record."""
    before = {row.object: row.written_us for row in rows if not _OUR_KEY.fullmatch(row.object)}
    folders = {f"{folder}/" if folder else "" for folder in (name.rpartition("/")[0] for name in before)}
    return {
        found.key
        for folder in folders
        for found in storage.objects(folder)
        if found.modified_us > before.get(found.key, found.modified_us)
    }


def places(store: HistoryStore) -> list[str]:
    """Return the URLs of the storages that may hold results of this history, each place once."""
    urls = [_own(), default_storage().url, *store.result_storages()]
    return list({_place(url): url for url in reversed(urls)}.values())


def orphans(store: HistoryStore, url: str, before_us: int) -> Iterator[StoredObject]:
    """Find the objects of a storage, last written before a moment, that no result names.

    All of them in the folder `storage` of the home, which is this history's alone; of another storage, which other histories may use as
    well, those with the name of a flow run that is known here. Raises `StorageError` and `ConfigurationError`.
    """
    known, is_own = store.result_storages(), _place(url) == _place(_own())
    roots: dict[str, bool] = {}

    def is_ours(key: str) -> bool:
        matched = _OUR_KEY.fullmatch(key)
        if is_own and "/" not in key and key.endswith(".json"):
            # A cache key, kept there by a `key_storage`, which no row names.
            return False
        return is_own or (matched is not None and _is_known(store, matched[1], roots))

    for part in _parts(resolve_storage(url).objects(), _AT_ONCE):
        old = [found for found in part if 0 < found.modified_us < before_us and is_ours(found.key)]
        yield from _unnamed(store, url, old, known)


def _own() -> str:
    return resolve_storage(settings().home / "storage").url


def _unnamed(store: HistoryStore, url: str, objects: list[StoredObject], known: list[str]) -> list[StoredObject]:
    """Return the objects that no result names, not even as one of another storage that is the same place, around it, or inside it."""
    found = set()
    for other in {*known, url}:
        around = f"{_place(other)}/"
        names = {f"{_place(url)}/{one.key}": one.key for one in objects}
        inside = {place.removeprefix(around): key for place, key in names.items() if place.startswith(around)}
        found |= {inside[name] for name in store.named_objects(other, list(inside))}
    return [one for one in objects if one.key not in found]


def _place(url: str) -> str:
    """Return what two URLs of one place have in common."""
    return os.path.realpath(path_of_url(url)) if url.startswith("file://") else url.rstrip("/")


def _is_known(store: HistoryStore, root: str, known: dict[str, bool]) -> bool:
    if root not in known:
        try:
            known[root] = store.flow_run(root) is not None
        except ObjectNotFound:
            known[root] = False
    return known[root]


def _parts(values: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(values)
    while part := list(islice(rest, size)):
        yield part


def object_problems(store: HistoryStore, name_of: Callable[[ResultRow], str]) -> Iterator[str]:
    """Yield a sentence for each result whose object is missing or has another size, and for each storage that can't be asked."""
    by_storage: dict[str, dict[str, ResultRow]] = defaultdict(dict)
    for row in store.results():
        if row.storage is not None and row.object is not None:
            # Of several results with one object, the newest one's bytes are there.
            by_storage[row.storage].setdefault(row.object, row)
    for url, rows in by_storage.items():
        try:
            storage = resolve_storage(url)
            for key, row in rows.items():
                size = storage.size(key)
                if size != row.size and store.result(row.key) is not None:
                    found = "is missing" if size is None else f"has {size} bytes and not {row.size}"
                    yield f"The stored result of {name_of(row)} can't be used: the object {key!r} in {url} {found}."
        except (StorageError, ConfigurationError) as error:
            yield f"The results in {url} can't be looked for. {error}"
