"""The documents' samples of flows that go on where they stopped: killed in a process of their own, and run again by the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

NOBLOCK_PAUSING = """
import os
from prefect_core import flow, task

def pause_flow_run(timeout, reschedule):
    \"\"\"Stands in for the pause: the process ends here, the first time.\"\"\"
    if not os.path.exists("paused"):
        open("paused", "w").close()
        os.kill(os.getpid(), 9)

@task(persist_result=True)
def foo():
    with open("bodies", "a") as file:
        file.write("foo\\n")
    return 42

@flow(persist_result=True)
def noblock_pausing():
    x = foo.submit()
    x.wait()
    pause_flow_run(timeout=30, reschedule=True)
    y = foo.submit()
    z = foo(wait_for=[x])
    alpha = foo(wait_for=[y])
    omega = foo(wait_for=[x, y])

if __name__ == "__main__":
    noblock_pausing()
"""
LONGRUNNING = """
import os
from prefect_core import flow, task
import anyio

@task(persist_result=True)
async def foo():
    with open("bodies", "a") as file:
        file.write("foo\\n")
    return 42

@flow(persist_result=True)
async def longrunning():
    res = 0
    for ii in range(20):
        if ii == 13 and not os.path.exists("paused"):
            open("paused", "w").close()
            os.kill(os.getpid(), 9)
        res += (await foo())
    return res

if __name__ == "__main__":
    anyio.run(longrunning)
"""
TAKEN_OVER = "taken over"


def run_and_retry(folder: Path, program: str, name: str) -> dict[str, object]:
    """Run a program that kills itself, then run its flow run again; return what the command says of that."""
    script = folder / f"{name}.py"
    script.write_text(program, encoding="utf-8")
    first = subprocess.run([sys.executable, str(script)], cwd=folder, check=False, capture_output=True)
    assert first.returncode == -signal.SIGKILL
    [run] = json.loads(_output(folder, "flow-run", "ls", "--json"))
    ended: dict[str, object] = json.loads(_output(folder, "flow-run", "retry", run["id"], "--json"))
    return ended


def _output(folder: Path, *arguments: str) -> str:
    code = f"import sys; from prefect_core.cli.main import main; sys.argv[1:] = {arguments!r}; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def bodies(folder: Path) -> int:
    return len((folder / "bodies").read_text(encoding="utf-8").splitlines())


def verdicts() -> Counter[str]:
    from prefect_core import history

    store = history.open_store()
    try:
        return Counter(one.verdict for run in store.task_runs() for one in store.verdicts(run.key))
    finally:
        store.close()


def test_a_flow_that_was_paused_takes_the_result_of_its_first_task_over(tmp_path: Path) -> None:
    ended = run_and_retry(tmp_path, NOBLOCK_PAUSING, "noblock_pausing")
    assert (ended["exit_code"], ended["result"]) == (0, None)
    assert ended["run_count"] == 2
    assert bodies(tmp_path) == 5
    assert verdicts() == {TAKEN_OVER: 1}


def test_a_long_running_flow_goes_on_with_the_thirteenth_of_its_equal_calls(tmp_path: Path) -> None:
    ended = run_and_retry(tmp_path, LONGRUNNING, "longrunning")
    assert ended["result"] == 20 * 42
    assert bodies(tmp_path) == 20
    assert verdicts() == {TAKEN_OVER: 13}
