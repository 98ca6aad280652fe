"""The command `prefect-core` as a process of its own: what it loads, prints, returns, and how it takes signals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

COMMAND = str(Path(sys.executable).parent / "prefect-core")

FLOWS = """
import signal
import subprocess
import threading
from prefect_core import flow, task

@task
def double(x):
    return 2 * x

@task
def hang():
    print("hanging", flush=True)
    threading.Event().wait(60)

@flow
def small(n: int = 3):
    print("in the flow", flush=True)
    subprocess.run(["echo", "in another process"], check=True)
    return sum(double.map(range(n)).result())

@flow
def fails():
    raise ValueError("on purpose")

@flow
def hangs():
    hang.submit().wait()

@task
def takes_the_signal():
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    threading.Event().wait(60)

@flow
def waits_for_one_that_takes_the_signal():
    takes_the_signal.submit().wait()

@flow
async def hangs_asynchronously():
    import anyio
    print("hanging", flush=True)
    await anyio.sleep(60)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some_flows.py").write_text(FLOWS)
    return tmp_path


def call(*arguments, **options):
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=50, check=False, **options)


def on_a_terminal(*arguments, **environment):
    """Return the exit code and all that a terminal of 160 columns gets to see."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "160", "LINES": "40", "TERM": "xterm", **environment}
    process = subprocess.Popen([COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:
        pass  # on Linux, what reads from a terminal whose other end is closed gets an error
    finally:
        os.close(ours)
    return process.wait(timeout=50), seen.decode()


def test_help_loads_click_and_of_our_own_only_the_way_to_it():
    program = """
import sys
before = set(sys.modules)
from prefect_core.cli.main import main
try:
    main()
finally:
    print(*sorted(set(sys.modules) - before), file=sys.stderr)
"""
    called = subprocess.run(
        [sys.executable, "-c", program, "--help"], capture_output=True, text=True, timeout=50, check=True
    )
    assert called.stdout.startswith("Usage: prefect-core ")
    loaded = called.stderr.split()
    assert {name for name in loaded if name.startswith("prefect_")} == {
        "prefect_core", "prefect_core.cli", "prefect_core.cli.commands", "prefect_core.cli.main",
    }  # fmt: skip
    heavy = {"anyio", "asyncio", "cloudpickle", "logging", "multiprocessing", "pydantic", "rich", "socket", "sqlite3"}
    assert not heavy & set(loaded)


@pytest.mark.parametrize(
    "arguments", [["version"], ["flow", "ls"], ["task-run", "ls"], ["flow-run", "ls", "--json"], ["db", "stats"]]
)
def test_rich_is_not_loaded_where_nothing_is_drawn(arguments):
    program = (
        "import sys; from prefect_core.cli.main import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    called = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=50, check=True
    )
    assert not {"rich", "pydantic", "anyio", "asyncio"} & set(called.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "some_flows.py:small"], 0),
        (["run", "some_flows:small"], 0),
        (["run", "some_flows.py:fails"], 1),
        (["run", "some_flows.py:small", "-p", "n=many"], 1),
        (["run", "some_flows.py:small", "-p", "colour=red"], 2),
        (["run", "some_flows.py"], 2),
        (["run", "missing.py:small"], 2),
        (["run"], 2),
        (["flow-run", "ls"], 0),
        (["flow-run", "inspect", "nobody"], 1),
        (["flow-run", "nonsense"], 2),
        (["doctor"], 0),
        (["db", "check"], 0),
    ],
)
def test_the_exit_code_says_how_it_went(arguments, code):
    called = call(*arguments)
    assert called.returncode == code, called.stderr
    if called.returncode != 0:
        assert called.stdout == "" or "run" in arguments
        assert "Traceback" not in called.stderr or "fails" in arguments[1]


def test_with_json_standard_output_holds_nothing_else():
    called = call("run", "some_flows.py:small", "--json")
    result = json.loads(called.stdout)
    assert (result["result"], result["exit_code"]) == (6, 0)
    assert "in the flow" in called.stderr
    assert "in another process" in called.stderr


def test_without_json_prints_stay_on_standard_output():
    called = call("run", "some_flows.py:small")
    assert called.stdout == "in the flow\nin another process\n"


def test_what_one_process_ran_another_reads():
    name = json.loads(call("run", "some_flows.py:small", "-p", "n=4", "--json").stdout)["name"]
    assert [run["name"] for run in json.loads(call("flow-run", "ls", "--json").stdout)] == [name]
    inspected = json.loads(call("flow-run", "inspect", name, "--json").stdout)
    assert inspected["task_runs_by_state"] == {"Completed": 4}
    assert inspected["parameters"] == {"n": 4}
    task_runs = json.loads(call("task-run", "ls", "--flow-run", name, "--json").stdout)
    assert [run["name"] for run in task_runs] == ["double-3", "double-2", "double-1", "double-0"]
    assert "Finished in state Completed()" in call("flow-run", "logs", name).stdout


PROCESSES = """
from dataclasses import dataclass
from prefect_core import flow, task

@dataclass
class Point:
    x: int

@task
def make(x):
    return Point(x)

@flow
def points():
    made = make.map(range(3)).result()
    assert all(type(point) is Point for point in made)
    return sum(point.x for point in made)
"""


@pytest.mark.parametrize("name", ["point_flows.py", "point-flows.py"])
def test_what_a_file_defines_travels_to_processes_and_back(folder, name):
    (folder / "flows").mkdir()
    (folder / "flows" / name).write_text(PROCESSES)
    called = call("run", f"flows/{name}", "--task-runner", "processes:2", "--json")
    assert called.returncode == 0, called.stderr
    assert json.loads(called.stdout)["result"] == 3


@pytest.mark.parametrize("flow", ["hangs", "hangs_asynchronously"])
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupt"), (signal.SIGTERM, 143, "termination")]
)
def test_a_signal_ends_the_run_crashed(flow, number, code, word):
    environment = {**os.environ, "PREFECT_CORE_INTERRUPT_GRACE_SECONDS": "0.1"}
    run = [COMMAND, "run", f"some_flows.py:{flow}"]
    process = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        first = process.stdout.readline()
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert (first, process.returncode) == ("hanging\n", code)
    assert "Traceback" not in err
    (row,) = json.loads(call("flow-run", "ls", "--json").stdout)
    assert (row["state"]["name"], row["state"]["message"]) == (
        "Crashed",
        f"Execution was aborted by {'an' if word[0] in 'ie' else 'a'} {word} signal.",
    )
    assert json.loads(call("task-run", "ls", "--state", "running", "--json").stdout) == []


def test_a_signal_that_reaches_another_thread_ends_the_run_too():
    environment = {**os.environ, "PREFECT_CORE_INTERRUPT_GRACE_SECONDS": "0.1"}
    assert call("run", "some_flows.py:waits_for_one_that_takes_the_signal", env=environment).returncode == 130


def test_progress_is_told_in_lines_where_there_is_no_terminal():
    called = call("run", "some_flows.py:small", "--progress")
    assert called.stdout == "in the flow\nin another process\n"
    assert "double: 3/3 ended (3 Completed)" in called.stderr.splitlines()
    assert "\x1b" not in called.stderr


def test_progress_is_drawn_on_a_terminal():
    code, seen = on_a_terminal("run", "some_flows.py:small", "--progress")
    assert code == 0
    last = seen.rpartition("Flow run '")[2]
    assert "': Completed" in last
    assert "3/3" in last
    assert "in the flow" in seen
    assert "Traceback" not in seen


def test_colours_are_for_terminals_and_not_with_no_color():
    call("run", "some_flows.py:fails")
    red = "\x1b[31m"
    assert red in on_a_terminal("flow-run", "ls")[1]
    assert red not in on_a_terminal("flow-run", "ls", NO_COLOR="1")[1]
    assert "\x1b" not in call("flow-run", "ls").stdout


def test_a_terminal_asks_before_it_deletes():
    name = json.loads(call("run", "some_flows.py:small", "--json").stdout)["name"]
    ours, theirs = pty.openpty()
    os.write(ours, b"n\n")
    kept = subprocess.run(
        [COMMAND, "flow-run", "delete", name], stdin=theirs, capture_output=True, text=True, timeout=50, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert f"Delete {name}" in kept.stderr
    assert len(json.loads(call("flow-run", "ls", "--json").stdout)) == 1
    assert call("flow-run", "delete", name, stdin=subprocess.DEVNULL).returncode == 0
    assert json.loads(call("flow-run", "ls", "--json").stdout) == []


def test_a_reader_that_goes_away_early_is_no_error():
    for _ in range(3):
        call("run", "some_flows.py:small")
    listing = subprocess.Popen([COMMAND, "flow-run", "ls"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    listing.stdout.close()
    err = listing.stderr.read()
    listing.stderr.close()
    listing.wait(timeout=50)
    assert "Traceback" not in err


def test_a_shell_is_told_what_completes_a_word():
    environment = {
        **os.environ,
        "_PREFECT_CORE_COMPLETE": "bash_complete",
        "COMP_WORDS": "prefect-core flow",
        "COMP_CWORD": "1",
    }
    called = subprocess.run([COMMAND], capture_output=True, text=True, env=environment, timeout=50, check=False)
    assert [line.partition(",")[2] for line in called.stdout.splitlines()] == ["flow-run", "flow"]


def test_bash_can_read_the_completion_script():
    script = call("completion", "bash").stdout
    subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=50)
