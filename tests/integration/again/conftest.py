"""What tests of further executions share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.again.attempts import Attempts, begin


@pytest.fixture
def attempts(home: Path) -> Attempts:
    return begin(Attempts(home))
