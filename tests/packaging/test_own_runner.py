"""The example of a runner of one's own: installed as a package, found by its name, true to the contract, and short."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_runner"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, target = tmp_path_factory.mktemp("source") / "own_runner", tmp_path_factory.mktemp("installed")
    shutil.copytree(EXAMPLE, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([*pip, "--no-build-isolation", "--no-deps", "--target", str(target), str(source)], check=True)
    return target


def run(installed: Path, *arguments: str) -> str:
    paths = [str(installed), *sys.path]
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_found_by_its_entry_point(installed: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from prefect_core import flow, task\n"
        "from prefect_core.testing import harness\n"
        "@task\n"
        "def double(x): return 2 * x\n"
        "@flow(task_runner='threads:2')\n"
        "def run(): return double.map([1, 2, 3]).result()\n"
        "with harness() as world:\n"
        "    print(run(), world.store.flow_runs()[0].runner)\n"
    )
    assert run(installed, str(program)).splitlines()[-1] == "[2, 4, 6] ThreadsTaskRunner"


def test_it_keeps_the_contract(installed: Path, tmp_path: Path) -> None:
    told = run(installed, "-m", "pytest", "-q", "--import-mode=importlib", str(EXAMPLE / "test_threads_runner.py"))
    assert " passed" in told
    assert "failed" not in told


def test_it_is_short() -> None:
    assert len((EXAMPLE / "threads_runner.py").read_text().splitlines()) < 100
