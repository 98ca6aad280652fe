"""Dask clusters that all tests of a module borrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import pytest

from tests.clusters.existing import ExistingCluster


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def threads() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExistingCluster]:
    """A scheduler and two workers, each a process that was started from a shell."""
    with ExistingCluster(tmp_path_factory.mktemp("existing"), workers=2) as cluster:
        yield cluster


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[ExistingCluster]:
    """One that a test may break."""
    with ExistingCluster(tmp_path, workers=2) as cluster:
        yield cluster
