"""What the campaign of recovery runs in processes that may be killed: random programs whose flow wants to be run again, and who looks."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path

from prefect_core import recovering
from prefect_core.cli.main import main as command_line
from prefect_core.entrypoints import load_flow
from tests.faults import random_programs
from tests.faults.random_programs import Node

HERE = "tests.faults.recovered"


def begin(nodes: list[Node]) -> None:
    """Run a program whose flow says that it is to be run again after a crash."""
    load_flow(f"{Path(random_programs.__file__).absolute()}:main").with_options(on_crash="resume")(nodes, 0)


def list_runs(file: str) -> None:
    """Write to a file what `prefect-core flow-run ls --json` prints."""
    sys.argv[1:] = ["flow-run", "ls", "--json"]
    with Path(file).open("w") as out, redirect_stdout(out):
        try:
            command_line()
        except SystemExit as end:
            assert not end.code


def recover() -> None:
    """Recover, and be content with nothing but completed runs."""
    report = recovering.recover()
    assert report.is_well, report
    assert all(one.what == recovering.RAN for one in report.runs), report
