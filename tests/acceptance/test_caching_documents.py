"""The samples of docs/caching.md and docs/transactions.md run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["caching", "transactions"])
def test_the_samples_run(name: str) -> None:
    document = FOLDER / f"{name}.md"
    for sample in re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(sample, str(document), "exec"), {"__name__": "sample"})
