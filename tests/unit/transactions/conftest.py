"""A story for each test, and a history in memory."""

from __future__ import annotations

import pytest

from tests.unit.transactions.story import Story


@pytest.fixture
def story() -> Story:
    return Story()
