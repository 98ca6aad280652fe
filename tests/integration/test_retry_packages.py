"""A flow run is retried under the name by which its module was imported, though nothing in its folder tells that name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.retrying import Flows

TASKS = """
from prefect_core import task

@task(persist_result=True)
def far(point):
    with open("bodies", "a") as file:
        file.write("far\\n")
    return point
"""
FLOWS = """
import os
from dataclasses import dataclass
from prefect_core import flow, task
from {tasks} import far

@dataclass
class Point:
    x: int

@task(persist_result=True)
def near(point):
    with open("bodies", "a") as file:
        file.write("near\\n")
    return Point(point.x + 1)

@flow
def main():
    point = far(near(Point(1)))
    if not os.path.exists("go"):
        raise ValueError("not yet")
    return point.x, type(point) is Point

if __name__ == "__main__":
    main(return_state=True)
"""
START = "from {flows} import main\nmain(return_state=True)\n"


@pytest.fixture
def flows(tmp_path: Path, home: Path) -> Flows:
    return Flows(tmp_path, home)


@pytest.mark.parametrize("files", [
    pytest.param({"flows": "pkg.sub.flows", "command": "-m pkg.sub.flows"}, id="a folder without __init__.py, by -m"),
    pytest.param({"flows": "pkg.sub.flows", "command": "start.py"}, id="a folder without __init__.py, imported"),
    pytest.param({"flows": "flows", "command": "pkg/sub/start.py"}, id="a package, imported by a script inside"),
])  # fmt: skip
def test_what_a_module_stored_is_taken_over(
    flows: Flows, files: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name, *command = files["flows"], *files["command"].split()
    folder = flows.folder / "pkg" / "sub"
    folder.mkdir(parents=True)
    (folder / "flows.py").write_text(FLOWS.format(tasks=name.replace("flows", "tasks")))
    (folder / "tasks.py").write_text(TASKS)
    if name == "flows":
        (folder / "__init__.py").touch()
        (folder / "start.py").write_text(START.format(flows=name))
    else:
        (flows.folder / "start.py").write_text(START.format(flows=name))
    subprocess.run([sys.executable, *command], cwd=flows.folder, check=True, capture_output=True, timeout=50)
    assert flows.bodies() == ["near", "far"]

    elsewhere = Flows(tmp_path_factory.mktemp("elsewhere"), flows.home)
    elsewhere.touch("go")
    assert elsewhere.json("flow-run", "retry", elsewhere.newest("main"))["result"] == [2, True]
    assert elsewhere.bodies() == []
