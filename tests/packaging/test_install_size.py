"""How much `pip install prefect_core` brings."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(300)

MOST_DISTRIBUTIONS = 16
MOST_MEGABYTES = 30

# Compiled files count: pip writes them. pip and setuptools come with the virtual environment.
MEASURE = """
import json
from importlib.metadata import distributions
sizes = {
    found.name: sum(path.stat().st_size for path in map(found.locate_file, found.files) if path.is_file())
    for found in distributions()
}
print(json.dumps({name: size for name, size in sizes.items() if name not in {"pip", "setuptools"}}))
"""


@pytest.fixture
def sizes(installed: Any) -> dict[str, int]:
    """Bytes by distribution."""
    run = subprocess.run([installed.python, "-c", MEASURE], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(run.stdout)


def test_few_distributions_are_installed(sizes: dict[str, int]) -> None:
    assert len(sizes) <= MOST_DISTRIBUTIONS, sorted(sizes)


def test_they_are_small(sizes: dict[str, int]) -> None:
    assert sum(sizes.values()) / 1e6 <= MOST_MEGABYTES, sizes
