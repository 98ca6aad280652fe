"""Objects leave their storages after their results, and orphans are found, never anything else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from prefect_core import clock
from prefect_core.errors import StorageError
from prefect_core.history import open_store
from prefect_core.history.batch import Batch
from prefect_core.history.store import HistoryStore
from prefect_core.results import housekeeping
from prefect_core.results.housekeeping import object_problems, orphans, places, sweep
from prefect_core.results.index import StorageIndex
from prefect_core.results.kept import KeptValue
from prefect_core.runs import FlowRun
from prefect_core.states import Pending
from prefect_core.storage import Storage, resolve_storage
from tests.unit.recorded import in_memory

LATER_US = 10_000_000


class House:
    """A history with a storage beside it."""

    def __init__(self, store: HistoryStore, storage: Storage) -> None:
        self.store = store
        self.storage = storage
        self._keys = iter(range(1, 100))

    def add(self, object_key: str, storage: Storage | None = None, *, write: bool = True) -> int:
        """Write an object and record its result, which one run has."""
        key, place = next(self._keys), storage or self.storage
        size, sha256 = place.write(object_key, [b"bytes"]) if write else (5, b"")
        batch = Batch()
        batch.of_results = {
            "result": [(key, "pickle", place.url, object_key, None, size, sha256, None, clock.now_us())],
            "kept": [(key + 1000, 1, key, "[]")],
        }
        self.store.write(batch)
        return key

    def drop(self, *keys: int) -> None:
        self.store.drop_results(keys, "by a test", lambda _: True)

    def objects(self, storage: Storage | None = None) -> list[str]:
        return sorted(found.key for found in (storage or self.storage).objects())

    def orphans(self, storage: Storage | None = None, before_us: int | None = None) -> list[str]:
        moment = clock.now_us() + LATER_US if before_us is None else before_us
        return sorted(found.key for found in orphans(self.store, (storage or self.storage).url, moment))


@pytest.fixture
def house(home: Path) -> Iterator[House]:
    store = open_store()
    yield House(store, resolve_storage(home / "storage"))
    store.close()


def test_a_sweep_deletes_the_objects_of_dropped_results_and_no_others(house: House) -> None:
    gone, _ = house.add("a/gone"), house.add("a/stays")
    assert sweep(house.store) == (0, [])
    house.drop(gone)
    assert sweep(house.store) == (1, [])
    assert house.objects() == ["a/stays"]
    assert house.store.doomed(10) == []
    assert sweep(house.store) == (0, [])


def test_an_object_that_is_gone_already_is_no_trouble(house: House) -> None:
    house.drop(house.add("gone", write=False))
    assert sweep(house.store) == (0, [])
    assert house.store.doomed(10) == []


def test_an_object_that_another_result_names_by_now_stays(house: House) -> None:
    house.drop(house.add("same"))
    house.add("same")
    assert sweep(house.store) == (0, [])
    assert house.objects() == ["same"]
    assert house.store.doomed(10) == []


def test_an_object_that_somebody_is_about_to_record_stays(house: House) -> None:
    house.drop(house.add("latest"), house.add("in/latest"))
    os.utime(house.storage.root / "latest", (2e9, 2e9))
    assert sweep(house.store) == (1, [])
    assert house.objects() == ["latest"]


def test_a_key_that_names_its_attempt_goes_whatever_the_clocks_say(house: House) -> None:
    key = f"{uuid4()}/{uuid4()}.1"
    house.drop(house.add(key))
    os.utime(house.storage.root / key, (2e9, 2e9))
    assert sweep(house.store) == (1, [])


def test_many_are_swept_in_parts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "_AT_ONCE", 2)
    other = resolve_storage(house.storage.root.parent / "other")
    house.drop(*[house.add(f"o{number}", (house.storage, other)[number % 2]) for number in range(9)])
    assert sweep(house.store) == (9, [])
    assert house.objects() == house.objects(other) == []


def test_a_storage_that_fails_is_told_and_the_others_are_swept(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = resolve_storage(tmp_path / "broken")
    house.drop(house.add("one", broken), house.add("two"), house.add("three", broken))

    def fails(_key: str) -> bool:
        raise StorageError("The disk is on fire.")

    with monkeypatch.context() as patched:
        patched.setattr(broken, "delete", fails)
        deleted, [problem] = sweep(house.store)
    assert deleted == 1
    assert broken.url in problem
    assert problem.endswith("the next prune tries again. The disk is on fire.")
    assert [row.object for row in house.store.doomed(10)] == ["one", "three"]
    assert sweep(house.store) == (2, [])
    assert house.store.doomed(10) == []


def test_a_storage_that_is_not_known_any_more_is_told(house: House) -> None:
    batch = Batch()
    batch.of_results = {"result": [(1, "pickle", "nonsense://there", "k", None, 1, b"", None, 1)]}
    house.store.write(batch)
    assert house.store.drop_results([1], "by a test", lambda _: True) == [1]
    deleted, [problem] = sweep(house.store)
    assert deleted == 0
    assert "nonsense" in problem


def test_orphans_are_the_objects_that_no_result_names(house: House) -> None:
    house.add("named")
    house.storage.write("orphan", [b"x"])
    house.storage.write("deep/down/orphan", [b"x"])
    assert house.orphans() == ["deep/down/orphan", "orphan"]
    assert house.orphans(before_us=clock.now_us() - LATER_US) == []


def test_a_cache_key_in_the_storage_of_the_home_is_no_orphan(house: House) -> None:
    StorageIndex(house.storage).publish("some key", KeptValue(1, "pickle", ()), None, "")
    house.storage.write("orphan", [b"x"])
    assert house.orphans() == ["orphan"]


def test_an_orphan_is_nothing_that_a_storage_around_or_inside_names(house: House) -> None:
    inside = resolve_storage(house.storage.root / "inside")
    around = resolve_storage(house.storage.root.parent)
    house.add("a", inside)
    house.add("storage/b", around)
    assert house.orphans() == []
    house.storage.write("inside/orphan", [b"x"])
    assert house.orphans() == ["inside/orphan"]


def test_a_storage_reached_by_a_link_is_the_same_place(house: House, tmp_path: Path) -> None:
    house.add("named")
    house.storage.write("orphan", [b"x"])
    (tmp_path / "link").symlink_to(house.storage.root)
    linked = resolve_storage(tmp_path / "link")
    house.add("by-link", linked)
    assert house.orphans() == house.orphans(linked) == ["orphan"]
    assert len(places(house.store)) == 1


def test_in_a_shared_storage_only_what_bears_the_name_of_a_known_run_is_ours(house: House, tmp_path: Path) -> None:
    shared = resolve_storage(tmp_path / "shared")
    run = FlowRun(Pending(), "calm-otter", "etl")
    with in_memory() as kept:
        kept.recorder.created(run)
        kept.recorder.flush()
        own = f"{run.id}/{uuid4()}.1"
        for key in (own, f"{uuid4()}/{uuid4()}.1", "report.csv", f"{run.id}/report.csv"):
            shared.write(key, [b"x"])
        assert [found.key for found in orphans(kept.store, shared.url, clock.now_us() + LATER_US)] == [own]


def test_all_places_are_looked_at_once(house: House, tmp_path: Path) -> None:
    other = resolve_storage(tmp_path / "other")
    house.add("a", other)
    house.add("b")
    assert sorted(places(house.store)) == sorted([house.storage.url, other.url])


def test_objects_that_are_missing_or_of_another_size_are_told_once_each(house: House) -> None:
    for name in ("whole", "cut", "missing"):
        house.add(name)
    (house.storage.root / "cut").write_bytes(b"b")
    (house.storage.root / "missing").unlink()
    problems = sorted(object_problems(house.store, lambda row: f"run-{row.key}"))
    assert problems == [
        f"The stored result of run-2 can't be used: the object 'cut' in {house.storage.url} has 1 bytes and not 5.",
        f"The stored result of run-3 can't be used: the object 'missing' in {house.storage.url} is missing.",
    ]


def test_of_results_with_one_object_the_newest_counts(house: House) -> None:
    house.add("same")
    house.storage.write("same", [b"other bytes"])
    assert len(list(object_problems(house.store, str))) == 1
    house.add("same")
    assert list(object_problems(house.store, str)) == []


def test_a_storage_that_cannot_be_asked_is_told(house: House) -> None:
    batch = Batch()
    batch.of_results = {"result": [(1, "pickle", "nonsense://there", "k", None, 1, b"", None, 1)]}
    house.store.write(batch)
    [problem] = object_problems(house.store, str)
    assert problem.startswith("The results in nonsense://there can't be looked for.")
