"""Rays for the tests: small, quiet, without a dashboard, in a temporary folder whose paths are short enough for sockets."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from prefect_core.testing.contract.journal import Journal
from prefect_runners import ray_cluster


@pytest.fixture(scope="session")
def ray_options() -> Iterator[dict[str, Any]]:
    """What a Ray of a test is started with."""
    folder = tempfile.mkdtemp(prefix="ray-")
    yield {
        "num_cpus": 2,
        "object_store_memory": 500 << 20,
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": "error",
        "_temp_dir": folder,
    }
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="class")
def own(ray_options: dict[str, Any]) -> Iterator[None]:
    """Keep what the first runner would start, so that each flow run need not start its own."""
    lease = ray_cluster.connect(None, ray_options)
    yield
    lease.give_back()
    assert not ray.is_initialized()


@pytest.fixture(scope="class")
def of_one_processor(ray_options: dict[str, Any]) -> Iterator[None]:
    """A Ray that no runner started."""
    ray.init(**ray_options | {"num_cpus": 1})
    yield
    assert ray.is_initialized()
    ray.shutdown()


@pytest.fixture(scope="module")
def borrowed(ray_options: dict[str, Any]) -> Iterator[None]:
    """A Ray that no runner started."""
    ray.init(**ray_options)
    yield
    assert ray.is_initialized()
    ray.shutdown()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A file in which bodies note what they do."""
    return Journal(tmp_path / "journal")
