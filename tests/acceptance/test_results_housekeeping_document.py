"""The samples of docs/results-housekeeping.md run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "results-housekeeping.md"
SAMPLES = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("sample", SAMPLES, ids=range(len(SAMPLES)))
def test_a_sample_runs(sample: str) -> None:
    exec(compile(sample, str(DOCUMENT), "exec"), {"__name__": "sample"})
