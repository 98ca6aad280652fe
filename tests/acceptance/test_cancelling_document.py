"""The samples of docs/cancelling.md cancel runs of a real process as they stand there, and the tests that it names exist."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from prefect_core import history
from prefect_core.history.rows import FlowRunRow, TaskRunRow
from prefect_core.history.store import RunFilter
from tests.integration.retrying import COMMAND

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "cancelling.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
[CONSOLE] = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
[SAMPLE] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
RUNS = 4
PROGRAM = f"""
import anyio
from prefect_core import flow, task

@task
async def nap():
    await anyio.sleep(100)

@flow
async def resting():
    await nap.submit()

async def main():
    async with anyio.create_task_group() as group:
        for _ in range({RUNS}):
            group.start_soon(lambda: resting(return_state=True))

anyio.run(main)
"""


def rows() -> tuple[list[FlowRunRow], list[TaskRunRow]]:
    """Return the flow runs and the naps in them, in the same order."""
    with history.reading() as store:
        flow_runs = store.flow_runs(RunFilter(name="resting"))
        naps = {row.flow_run: row for row in store.task_runs(RunFilter(name="nap", state_types=["RUNNING"]))}
        return flow_runs, [naps[row.key] for row in flow_runs if row.key in naps]


def test_the_samples_cancel_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "resting.py").write_text(PROGRAM, encoding="utf-8")
    process = subprocess.Popen([sys.executable, "resting.py"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        while len((found := rows())[1]) < RUNS:
            assert process.poll() is None
        flow_runs, naps = found
        cancel_by_command(str(flow_runs[0].id))
        names: dict[str, Any] = {
            "flow_run_id": flow_runs[1].id,
            "task_run_id": naps[2].id,
            "another_flow_run_id": flow_runs[3].id,
        }
        code = compile(SAMPLE, str(DOCUMENT), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

        async def carry_out() -> None:
            await eval(code, names)

        anyio.run(carry_out)
        assert process.wait(timeout=50) == 0
    finally:
        process.kill()
        process.wait()
    with history.reading() as store:
        ends = [store.flow_run(row.key).state_name for row in flow_runs]
        nap = store.task_run(naps[2].key).state_name
    # The flow of the task run that was cancelled alone went on, and could not do without its value.
    assert (ends, nap) == (["Cancelled", "Cancelled", "Failed", "Cancelled"], "Cancelled")


def cancel_by_command(run: str) -> None:
    [shown] = set(re.findall(r"[0-9a-f-]{36}", CONSOLE))
    line, answer = CONSOLE.replace(shown, run).splitlines()
    command = [COMMAND, *shlex.split(line.removeprefix("$ prefect-core "))]
    cancelled = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert cancelled.stdout == f"{answer}\n"


@pytest.mark.parametrize("name", re.findall(r"`((?:unit|contract|integration|clusters)/\w+\.py)`", TEXT))
def test_the_tests_that_it_names_exist(name: str) -> None:
    assert (ROOT / "tests" / name).exists()
