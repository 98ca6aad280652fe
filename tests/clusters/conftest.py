"""Rays for the tests: small, quiet, without a dashboard, in a temporary folder whose paths are short enough for sockets."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest


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
