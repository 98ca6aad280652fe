"""What is tried of the result storage before tasks on a cluster run, for both kinds of clusters."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from prefect_core import flow, task
from prefect_core.errors import RunnerError
from prefect_core.states import State
from prefect_core.storage import resolve_storage, resolving
from prefect_core.storage.local import LocalStorage


class CountingStorage(LocalStorage):
    """A folder that counts what the flow's process asks of it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened: list[str] = []

    def open(self, key: str) -> Any:
        self.opened.append(key)
        return super().open(key)


def run_stored(runner: Any, storage: Any, count: int = 3) -> list[State]:
    """Run tasks whose results are stored there, and return their states."""

    @task(result_storage=storage)
    def make(number: int) -> int:
        return number

    @flow(task_runner=runner)
    def run() -> list[State | None]:
        return [future.wait() for future in [make.submit(number) for number in range(count)]]

    states: list[State] = run(return_state=True).data
    return states


def check_a_shared_folder_is_tried_once(runner: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = CountingStorage(folder / "results")
    # By its URL too, as it is with storages that are not of the user's own making.
    monkeypatch.setitem(resolving._by_url, storage.url, storage)
    assert [state.result() for state in run_stored(runner, storage)] == [0, 1, 2]
    tried = [key.rpartition("-")[0] for key in storage.opened]
    assert tried == ["prefect-core-probe"], storage.opened
    assert not [found.key for found in storage.objects() if "probe" in found.key]


def check_a_storage_that_is_not_shared_is_refused(runner: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = f"memory://{uuid.uuid4().hex}"
    _check_refused(run_stored(runner, memory), memory)
    assert list(resolve_storage(memory).objects()) == []
    # The same path, which is another folder in each process.
    monkeypatch.chdir(folder)
    here = "/proc/self/cwd/results-of-tests"
    states = run_stored(runner, here)
    _check_refused(states, here)
    assert not Path(here).exists() or os.listdir(here) == []


def _check_refused(states: list[State], place: str) -> None:
    for state in states:
        assert state.is_failed()
        assert isinstance(state.data, RunnerError)
        assert place in str(state.data)
        assert "Give a result_storage that all of them reach" in str(state.data)
