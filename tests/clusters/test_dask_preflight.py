"""What is tried of the result storage before tasks on Dask run."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefect_core.task_runners import DaskTaskRunner
from tests.clusters import probing
from tests.clusters.existing import ExistingCluster


def test_a_storage_that_all_reach_is_tried_once(
    existing: ExistingCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probing.check_a_shared_folder_is_tried_once(DaskTaskRunner(address=existing.address), tmp_path, monkeypatch)


def test_a_storage_that_is_not_shared_is_refused_and_says_what_to_do(
    existing: ExistingCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = DaskTaskRunner(address=existing.address)
    probing.check_a_storage_that_is_not_shared_is_refused(runner, tmp_path, monkeypatch)
    left = [path for path in Path("/proc").glob("[0-9]*/cwd/results-of-tests/*") if "probe" in path.name]
    assert left == []
