"""Two processes resume one suspended run at once, 3,000 times: each resume happens once. `integration` runs a sample of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.retrying import Flows
from tests.integration.test_resumed_at_once import race

ROUNDS = 3_000


@pytest.mark.faults
@pytest.mark.timeout(3_000)
def test_each_of_three_thousand_resumes_happens_once(tmp_path: Path, home: Path) -> None:
    outcomes = race(Flows(tmp_path, home), ROUNDS)
    assert set(outcomes) <= {"Suspended", "refused"}
    assert outcomes["Suspended"] >= ROUNDS
