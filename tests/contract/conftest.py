"""Histories of every kind, for the tests of what they have in common."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.store import HistoryStore
from tests.contract.history_runs import KINDS


@pytest.fixture(params=sorted(KINDS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HistoryStore]:
    made = KINDS[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture
def recorder(store: HistoryStore) -> Iterator[StoreRecorder]:
    made = StoreRecorder(store)
    yield made
    made.close()
