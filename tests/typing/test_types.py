"""Runs mypy and pyright over the files in `cases/`, whose `assert_type` say what a user's checker must find."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parent / "cases"

# pyright starts Node.js, and mypy reads the packages once more under a cache of its own, which the next run finds.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_mypy_finds_the_types_that_users_rely_on() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", ".build/mypy-of-users"]
    # Files on the command line, and not the packages of pyproject.toml; the rest of its settings hold.
    run = subprocess.run([*command, *map(str, sorted(CASES.glob("*.py")))], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_pyright_finds_the_types_that_users_rely_on() -> None:
    command = [
        sys.executable,
        "-m",
        "pyright",
        "--project",
        str(CASES.parent),
        "--pythonpath",
        sys.executable,
        "--outputjson",
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    report = json.loads(run.stdout)
    found = [
        f"{Path(one['file']).name}:{one['range']['start']['line'] + 1}: {one['message']}"
        for one in report["generalDiagnostics"]
    ]
    assert not found, "\n".join(found)
    assert report["summary"]["filesAnalyzed"] == len([*CASES.glob("*.py")])
