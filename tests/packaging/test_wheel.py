"""The wheel and the sdist: what is in them, how much `pip install prefect_core` brings, and that the wheel works without the checkout."""

from __future__ import annotations

import json
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

# The first test waits for pip.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HELLO = """
from prefect_core import flow, task

@task
def greet(name):
    return f"hello {name}"

@flow
def hello(name="world"):
    return greet.submit(name).result()

if __name__ == "__main__":
    print(hello())
"""

MOST_DISTRIBUTIONS = 16
MOST_MEGABYTES = 30

# Compiled files count: pip writes them.
MEASURE = """
import json
from importlib.metadata import distributions
sizes = {
    found.name: sum(path.stat().st_size for path in map(found.locate_file, found.files) if path.is_file())
    for found in distributions()
}
print(json.dumps(sizes))
"""


def top_level(names: list[str]) -> set[str]:
    return {name.split("/")[0] for name in names}


def test_the_wheel_holds_the_three_packages_and_nothing_else(built: Any) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = wheel.namelist()
    packages = {"prefect_core", "prefect_runners", "prefect_serializers"}
    assert top_level(names) == packages | {"prefect_core-0.1.0.dist-info"}
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    assert not [name for name in names if name.endswith((".pyc", ".pyo"))]


def test_the_wheel_holds_every_source_file(built: Any) -> None:
    root = Path(__file__).parents[2]
    roots = {"prefect_core": root, "prefect_runners": root / "runners", "prefect_serializers": root / "serializers"}
    sources = {
        path.relative_to(base).as_posix()
        for package, base in roots.items()
        for path in (base / package).rglob("*")
        if path.suffix in {".py", ".sql"}
    }
    with zipfile.ZipFile(built.wheel) as wheel:
        assert sources <= set(wheel.namelist())


def test_the_sdist_can_be_worked_with(built: Any) -> None:
    with tarfile.open(built.sdist) as sdist:
        names = {name.split("/", 1)[-1] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "Makefile", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith((".venv", ".build", ".git/", "dist"))]


def test_a_flow_runs_from_the_wheel_alone(installed: Any, home: Path, tmp_path: Path) -> None:
    script = tmp_path / "hello.py"
    script.write_text(HELLO, encoding="utf-8")
    run = subprocess.run([installed.python, "-P", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "hello world"
    assert any(home.iterdir())


def test_the_command_of_the_wheel_tells_its_version(installed: Any, tmp_path: Path) -> None:
    run = subprocess.run([installed.command, "version"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "0.1.0" in run.stdout


@pytest.fixture
def sizes(installed: Any) -> dict[str, int]:
    """Bytes by distribution."""
    run = subprocess.run([installed.python, "-c", MEASURE], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(run.stdout)


def test_few_distributions_are_installed(sizes: dict[str, int]) -> None:
    assert len(sizes) <= MOST_DISTRIBUTIONS, sorted(sizes)


def test_they_are_small(sizes: dict[str, int]) -> None:
    assert sum(sizes.values()) / 1e6 <= MOST_MEGABYTES, sizes
