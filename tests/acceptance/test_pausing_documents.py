"""The documents' samples of pausing, run as printed in processes of their own, and resumed as the documents say."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prefect_core import history, pause_flow_run, resume_flow_run
from prefect_core.history.rows import FlowRunRow

JOKE = """
from prefect_core import task, flow, pause_flow_run, resume_flow_run

@task
async def marvin_setup():
    return "a raft of ducks walk into a bar..."
@task
async def marvin_punchline():
    return "it's a wonder none of them ducked!"
@flow
async def inspiring_joke():
    await marvin_setup()
    await pause_flow_run(timeout=600)  # pauses for 10 minutes
    await marvin_punchline()

import anyio
anyio.run(inspiring_joke, backend="{backend}")
"""
NOBLOCK = """
from prefect_core import flow, pause_flow_run, task

@task(persist_result=True)
def foo():
    return 42

@flow(persist_result=True)
def noblock_pausing():
    x = foo.submit()
    pause_flow_run(timeout=30, reschedule=True)
    y = foo.submit()
    z = foo(wait_for=[x])
    alpha = foo(wait_for=[y])
    omega = foo(wait_for=[x, y])
"""
LONGRUNNING = """
from prefect_core import flow, task
import time

@task(persist_result=True)
async def foo():
    return 42

@flow(persist_result=True)
async def longrunning():
    res = 0
    for ii in range(20):
        time.sleep({seconds})
        res += (await foo())
    return res
"""


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def command(*arguments: str) -> list[str]:
    return ["-c", f"import sys; from prefect_core.cli.main import main; sys.argv[1:] = {arguments!r}; main()"]


def ended(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    return out


def await_run(process: subprocess.Popen[str], *states: str) -> FlowRunRow:
    """Wait until the newest flow run is in one of these states."""
    while True:
        store = history.open_store()
        try:
            for row in store.flow_runs():
                if row.state_type in states:
                    return row
        finally:
            store.close()
        assert process.poll() is None, process.communicate()


def task_runs(row: FlowRunRow) -> list[tuple[str, str]]:
    store = history.open_store()
    try:
        return sorted((run.name, run.state_name) for run in store.task_runs() if run.flow_run == row.key)
    finally:
        store.close()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_inspiring_joke_pauses_after_the_first_task_and_ends_when_it_is_resumed(tmp_path: Path, backend: str) -> None:
    (tmp_path / "joke.py").write_text(JOKE.format(backend=backend), encoding="utf-8")
    with running(tmp_path, "joke.py") as process:
        row = await_run(process, "PAUSED")
        assert task_runs(row) == [("marvin_setup-0", "Completed")]
        resume_flow_run(row.id)
        ended(process)
    assert task_runs(row) == [("marvin_punchline-0", "Completed"), ("marvin_setup-0", "Completed")]


def test_noblock_pausing_ends_after_one_task_whose_result_is_taken_over_on_resume(tmp_path: Path) -> None:
    (tmp_path / "noblock.py").write_text(NOBLOCK, encoding="utf-8")
    with running(tmp_path, *command("run", "noblock.py:noblock_pausing", "--json")) as process:
        paused = json.loads(ended(process))
    assert (paused["state"]["type"], paused["exit_code"]) == ("PAUSED", 0)
    store = history.open_store()
    row = store.flow_run(paused["id"])
    assert task_runs(row) == [("foo-0", "Completed")]
    with running(tmp_path, *command("flow-run", "resume", paused["id"], "--json")) as process:
        resumed: dict[str, Any] = json.loads(ended(process))
    assert (resumed["state"]["type"], resumed["result"]) == ("COMPLETED", None)
    assert task_runs(row) == [(f"foo-{number}", "Completed") for number in range(5)]
    first = next(run for run in store.task_runs() if run.name == "foo-0")
    assert [one.verdict for one in store.verdicts(first.key)] == ["taken over"]
    assert len(store.attempts(first.key)) == 1
    store.close()


@pytest.mark.parametrize("reschedule", [False, True])
def test_longrunning_is_paused_out_of_process(tmp_path: Path, reschedule: bool) -> None:
    # The documents print 5 seconds, and the run would take 100: what matters is that it takes long enough to be paused in the midst of it.
    (tmp_path / "long.py").write_text(LONGRUNNING.format(seconds=0.1), encoding="utf-8")
    with running(tmp_path, *command("run", "long.py:longrunning", "--json")) as process:
        row = await_run(process, "RUNNING")
        pause_flow_run(flow_run_id=row.id, reschedule=reschedule)
        assert await_run(process, "PAUSED").id == row.id
        if reschedule:
            assert json.loads(ended(process))["state"]["name"] == "Paused"
        bodies = len(task_runs(row))
        assert bodies < 20
        if reschedule:
            with running(tmp_path, *command("flow-run", "resume", str(row.id), "--json")) as resumed:
                assert json.loads(ended(resumed))["result"] == 840
        else:
            resume_flow_run(row.id)
            assert json.loads(ended(process))["result"] == 840


def test_the_face_has_the_three_functions() -> None:
    code = """
        import sys
        from prefect_core import pause_flow_run, resume_flow_run, suspend_flow_run
        from prefect_core import flow
        assert "pydantic" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
