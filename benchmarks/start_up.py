"""What does starting cost: the import, and a hello-world flow as a whole process? Against importing pydantic's BaseModel."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from benchmarks.measure import Figure, compare

IMPORT = "import prefect_core"
IMPORT_NAMES = "from prefect_core import flow, task"
PYDANTIC = "from pydantic import BaseModel"
HELLO = """
from prefect_core import flow, task
@task
def hello(name): print(f"Hello {name}!")
@flow
def main(name="world"): hello(name)
main()
"""


def _python(code: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"PREFECT_CORE_HOME": home}
        # Both sides start from compiled modules, as installed packages do; the warm-up compiles ours in a checkout.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, timeout=60)


def _compare(what: str, ours: str, limit: float | None) -> Figure:
    figure = compare(what, lambda: _python(ours), lambda: _python(PYDANTIC), 1000, limit, repeats=9)
    return Figure(figure.what, figure.ours, figure.bare, figure.ratio, figure.spread, limit, "ms")


def measure() -> list[Figure]:
    return [
        _compare("`import prefect_core`, whole process", IMPORT, 0.6),
        _compare("`from prefect_core import flow, task`, whole process", IMPORT_NAMES, None),
        _compare("hello-world flow in an empty home, whole process", HELLO, 1.6),
    ]
