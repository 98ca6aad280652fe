"""docs/why.md names every reason with all its fields, and its sample is a program."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from prefect_core import reasons
from prefect_core.reasons import Reason
from prefect_core.reasons.kinds import Followed

TEXT = (Path(__file__).parents[2] / "docs" / "why.md").read_text(encoding="utf-8")
TABLE = TEXT.partition("|---|---|---|\n")[2]
ROWS = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", TABLE, re.MULTILINE))
KINDS = [
    kind
    for kind in vars(reasons).values()
    if isinstance(kind, type) and issubclass(kind, Reason) and kind not in (Reason, Followed)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_each_reason_stands_there_with_its_fields(kind: type[Reason]) -> None:
    told = set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", ROWS[kind.kind])))
    assert told == {field.name for field in fields(kind)}


def test_no_other_reason_stands_there() -> None:
    assert set(ROWS) == {kind.kind for kind in KINDS}


def test_the_sample_is_a_program() -> None:
    [sample] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, object] = {"__name__": "night"}
    exec(compile(sample, "night.py", "exec"), names)
    assert {"night", "train", "summary", "upload"} <= set(names)
