"""Digests in other processes: with other hash seeds, and on other versions of Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.encoding import plain
from tests.unit.encoding.test_pinned import PINNED

ROOT = Path(__file__).parents[3]
CODE = """
import json
from prefect_core.encoding import code_digest
def fn(a):
    return a in {"x", "y", "z", b"b", 1.5, None} and (lambda: {"u", "v"})
print(json.dumps(code_digest(fn).hex()))
"""


def run(python: str, *arguments: str, seed: str) -> object:
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, check=True, timeout=50
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_a_process_with_another_hash_seed_gives_the_same_digests(seed: str) -> None:
    assert run(sys.executable, "-m", "tests.unit.encoding.plain", seed=seed) == plain.hexadecimal()


def test_the_digest_of_code_depends_on_no_hash_seed() -> None:
    digests = {str(run(sys.executable, "-c", CODE, seed=seed)) for seed in ("0", "1", "2", "random")}
    assert len(digests) == 1


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_every_python_of_this_machine_gives_the_pinned_digests(version: str) -> None:
    found = subprocess.run([ROOT / ".ci" / "find-python", version], capture_output=True, text=True, check=False)
    # This very process is one; which others there are depends on the machine.
    python = found.stdout.strip() or sys.executable
    digests = run(python, "-m", "tests.unit.encoding.plain", seed="random")
    assert digests == {name: PINNED[name] for name in plain.VALUES}
