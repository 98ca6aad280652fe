"""The first sample of docs/testing.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "testing.md"


def test_a_flow_that_waits_for_hours_is_tested_in_no_time() -> None:
    sample = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)[0]
    names: dict[str, object] = {"__name__": "sample"}
    exec(sample, names)
    names["test_a_flow_waits_two_hours_in_no_time"]()
