"""A storage that is full, slow, or gone for a while: tried again for some time, then a clear failure of that task alone."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from prefect_core import flow, task
from prefect_core.errors import StorageError
from prefect_core.storage.local import LocalStorage
from tests.integration.again.attempts import Attempts, end_first, now, ran
from tests.integration.history.test_disturbed import needs_mount, small_disk
from tests.integration.storage.program import temporary_files

PLENTY = 300_000


class Troubled(LocalStorage):
    """A folder that fails so many times, or waits for its gate before it writes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.failures = 0
        self.tries = 0
        self.gate = threading.Event()
        self.gate.set()

    def _fail(self) -> None:
        self.tries += 1
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _write(self, *arguments: Any) -> Any:
        self._fail()
        assert self.gate.wait(20)
        return super()._write(*arguments)

    def _open(self, *arguments: Any) -> Any:
        self._fail()
        return super()._open(*arguments)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Troubled:
    from prefect_core.storage import resolving

    storage = Troubled(tmp_path / "objects")
    monkeypatch.setitem(resolving._by_url, storage.url, storage)
    return storage


def stored(storage: Any) -> Any:
    def store(number: int) -> bytes:
        ran(number)
        return bytes([number]) * PLENTY

    return task(store, persist_result=True, result_storage=storage)


@needs_mount
def test_a_full_disk_fails_the_task_and_once_there_is_space_a_retry_completes(
    attempts: Attempts, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        stuffing = disk / "stuffing"
        store = stored(disk / "objects")

        @flow(final_state_from="return_value")
        def main() -> list[int]:
            first = store.submit(1)
            first.wait()
            if now().number == 1:
                free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
                stuffing.write_bytes(bytes(free - PLENTY // 2))
            second = store.submit(2).wait()
            if now().number == 1:
                now().scratch["error"] = second.result(raise_on_failure=False)
            end_first()
            return [len(first.result()), len(second.result())]

        attempts.run(main)
        error = attempts.scratch["error"]
        assert isinstance(error, StorageError)
        assert "No space left on device (tried" in str(error)
        assert "Free some space" in str(error)
        assert temporary_files(disk) == []
        assert attempts.states_of("store") == [["Pending", "Running", "Completed"], ["Pending", "Running", "Failed"]]
        with attempts.store() as history:
            assert len(history.results()) == 1
        stuffing.unlink()
        assert attempts.run(main).result() == [PLENTY, PLENTY]
        assert attempts.bodies == [2]


def test_a_storage_that_is_gone_for_a_moment_is_waited_for(attempts: Attempts, storage: Troubled) -> None:
    store = stored(storage)

    @flow
    def main() -> int:
        storage.failures = 2
        value = store(1)
        end_first()
        return len(value)

    attempts.run(main)
    assert storage.tries == 3
    assert attempts.run(main).result() == PLENTY
    assert attempts.bodies == []


def test_a_storage_that_stays_away_fails_the_task_within_the_bound(attempts: Attempts, storage: Troubled) -> None:
    store = stored(storage)
    other = task(lambda: 5, persist_result=True)

    @flow(final_state_from="return_value")
    def main() -> int:
        storage.failures = 1_000_000 if now().number == 1 else 0
        began = time.monotonic()
        state = store(1, return_state=True)
        now().scratch["seconds"] = time.monotonic() - began
        now().scratch["state"] = state
        value: int = other()
        end_first()
        return value + len(state.result())

    attempts.run(main)
    assert attempts.scratch["state"].is_failed()
    assert "Input/output error (tried" in attempts.scratch["state"].message
    # The bound is 0.2 s; a busy machine adds to it.
    assert 0.2 <= attempts.scratch["seconds"] < 5
    assert attempts.run(main).result() == 5 + PLENTY
    assert attempts.bodies == [1]


def test_a_task_that_is_tried_again_gets_its_value_stored_by_a_later_attempt(
    attempts: Attempts, storage: Troubled
) -> None:
    store = stored(storage).with_options(retries=1)

    @flow
    def main() -> int:
        if now().number == 1:
            # More than there are tries within the bound, and fewer than in two.
            storage.failures = 4
        value = store(1)
        end_first()
        return len(value)

    attempts.run(main)
    assert attempts.run(main).result() == PLENTY
    assert attempts.bodies == []


def test_a_storage_that_can_not_be_read_is_said_and_the_task_runs_again(attempts: Attempts, storage: Troubled) -> None:
    store = stored(storage)

    @flow
    def main() -> int:
        if now().number == 2:
            storage.failures = 1_000_000
        value = store(1)
        if now().number < 3:
            raise ValueError("not yet")
        return len(value)

    attempts.run(main)
    assert "can't write" in str(attempts.run(main).message)
    assert attempts.bodies == [1]
    storage.failures = 0
    assert attempts.run(main).result() == PLENTY


def test_a_slow_storage_holds_up_nobody_else(attempts: Attempts, storage: Troubled) -> None:
    store = stored(storage)
    other = task(lambda: 5, persist_result=True)

    @flow
    def main() -> int:
        storage.gate.clear()
        slow = [store.submit(number) for number in range(3)]
        value: int = other.submit().result(timeout=20) + other()
        assert not any(one.done() for one in slow)
        storage.gate.set()
        return value + sum(len(one.result()) for one in slow)

    assert attempts.run(main).result() == 10 + 3 * PLENTY


class Odd:
    """A storage of somebody's own that raises what nobody expects."""

    url = "odd://"

    def write(self, key: str, pieces: Any) -> Any:
        raise ZeroDivisionError(key)

    def open(self, key: str) -> Any:
        raise ZeroDivisionError(key)

    def size(self, key: str) -> int | None:
        return None

    def delete(self, key: str) -> bool:
        return False

    def objects(self, prefix: str = "") -> Any:
        return iter(())

    def clear_leftovers(self, before_us: int) -> int:
        return 0


@pytest.mark.parametrize(
    "given",
    [
        {"result_storage": Odd()},
        {"result_storage": "nosuchprotocol://x"},
        {"result_serializer": "nobody"},
        *({"result_storage_key": key} for key in ("{0}", "{}", "{parameters.x}", "{parameters[y]}", "{x", "../x", "")),
    ],
    ids=lambda given: str(next(iter(given.values()))) if not isinstance(next(iter(given.values())), Odd) else "odd",
)
def test_whatever_keeps_a_result_from_being_stored_fails_its_task(attempts: Attempts, given: dict[str, Any]) -> None:
    store = task(lambda: 5, name="store", persist_result=True, **given)

    @flow(final_state_from="return_value")
    def main() -> None:
        now().scratch["state"] = store.submit().wait()

    attempts.run(main)
    assert attempts.scratch["state"].is_failed()
    assert "could not be stored" in attempts.scratch["state"].message
    assert attempts.states_of("store") == [["Pending", "Running", "Failed"]]
