"""What the README shows runs as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

CALLS = """
assert one_by_one() == at_once() == in_parallel() == on_mine() == [x * x for x in range(10)]
assert heavy.submit(10).result() == 45
"""


def run(path: Path) -> str:
    done = subprocess.run(
        [sys.executable, path], env=os.environ, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_three_samples() -> None:
    assert len(SAMPLES) == 3  # the one for clusters runs in tests/clusters


def test_the_first_sample_prints_what_it_computes(tmp_path: Path) -> None:
    script = tmp_path / "first.py"
    script.write_text(SAMPLES[0], encoding="utf-8")
    assert run(script).strip() == str(sum(len(f"weather of {city}") for city in ("Lisbon", "Oslo", "Kyoto")))


def test_the_same_tasks_give_the_same_on_every_runner(tmp_path: Path) -> None:
    script = tmp_path / "runners.py"
    script.write_text(SAMPLES[1] + CALLS, encoding="utf-8")
    run(script)


@pytest.mark.parametrize("target", ["demo", "test", "bench", "faults"])
def test_each_make_target_that_it_names_exists(target: str) -> None:
    assert f"make {target}" in README or target == "faults"
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", re.findall(r"`(docs/[\w-]+\.md|examples/|CONTRIBUTING\.md)`", README))
def test_each_document_that_it_names_exists(name: str) -> None:
    assert (ROOT / name).exists()
