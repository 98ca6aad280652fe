"""`prefect-core flow-run retry`: what it runs again, and what it refuses, each time in processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.integration.retrying import Flows

pytestmark = pytest.mark.slow

WORK = """
import os, threading
from pathlib import Path
from prefect_core import flow, get_run_logger, runtime, tags, task
from prefect_core.states import Cancelled

def note(word):
    with open("bodies", "a") as file:
        file.write(word + "\\n")

def wait_once():
    if not os.path.exists("go"):
        print("waiting", flush=True)
        threading.Event().wait(60)

def fail_once():
    if not os.path.exists("go"):
        raise ValueError("not yet")

@task(persist_result=True)
def stored(x):
    note(f"stored-{x}")
    return x * 10

@task
def loose(x):
    note(f"loose-{x}")
    return x + 1

@flow
def failing(start: int = 1):
    values = stored.map([start, start + 1]).result()
    total = sum(loose.map(values).result())
    fail_once()
    return total

@flow
def waiting():
    stored(1)
    wait_once()
    return loose(2)

@flow
def cancelling():
    stored(1)
    return Cancelled(message="not today") if not os.path.exists("go") else "done"

@flow
async def coroutine(start: int = 1):
    value = await stored.submit(start)
    fail_once()
    return value

@flow
def generator(n: int):
    for x in range(n):
        yield stored(x)
    fail_once()

@flow
async def async_generator(n: int):
    for x in range(n):
        yield await stored.submit(x)
    fail_once()

@flow(persist_result=True)
def inner(x: int):
    note("inner")
    return stored(x)

@flow
def outer():
    inner(5)
    failing_inner()

@flow(persist_result=True)
def failing_inner():
    stored(6)
    fail_once()

class Point:
    def __init__(self, x):
        self.x = x

@flow(validate_parameters=False)
def unheld(point=Point(3), other=1):
    note(str(point.x))
    fail_once()
    return point.x

@flow(validate_parameters=False, persist_result=True)
def held(point=Point(3), other=1):
    note(str(point.x))
    fail_once()
    return point.x

@flow(retries=1)
def trying_twice():
    note("body")
    fail_once()
    return "done"

@flow(persist_result=True, cache_result_in_memory=False)
def out_of_memory():
    fail_once()
    return [1, 2]

def made():
    @flow
    def nowhere():
        fail_once()
    return nowhere

local = made()

@flow(flow_run_name="of-{day}")
def variadic(day, /, *rest, deep=(), **more):
    note(f"{day}{rest}{deep}{more}".replace(" ", ""))
    fail_once()

@flow
def tagged():
    stored(1)
    fail_once()
    stored(2)
    return sorted(runtime.flow_run.tags)
"""


@pytest.fixture
def flows(tmp_path: Path, home: Path) -> Flows:
    made = Flows(tmp_path, home)
    made.write(WORK)
    return made


def refused(flows: Flows, run: str, *options: str) -> str:
    """Retry a run that is refused, see that this changed nothing, and return what was said."""
    before = flows.inspect(run)
    flows.bodies()
    called = flows.call("flow-run", "retry", run, *options)
    assert called.returncode == 1, called.stderr
    assert called.stderr.startswith("Error: ")
    assert called.stderr.count("\n") == 1
    assert flows.inspect(run) == before
    assert flows.bodies() == []
    return called.stderr


def test_a_failed_run_goes_on_and_takes_over_what_was_stored(flows: Flows) -> None:
    run = flows.run("failing", "-p", "start=3")
    assert sorted(flows.bodies()) == ["loose-30", "loose-40", "stored-3", "stored-4"]
    flows.touch("go")
    called = flows.json("flow-run", "retry", run)
    assert (called["id"], called["result"], called["exit_code"]) == (run, 72, 0)
    assert called["parameters"] == {"start": 3}
    assert sorted(flows.bodies()) == ["loose-30", "loose-40"]
    inspected = flows.inspect(run)
    assert [(one["attempt"], one["state"]["name"]) for one in inspected["attempts"]] == [
        (1, "Failed"),
        (2, "Completed"),
    ]
    assert flows.call("db", "check").returncode == 0


def test_a_retry_that_fails_again_may_be_retried_again(flows: Flows) -> None:
    run = flows.run("failing")
    assert flows.call("flow-run", "retry", run).returncode == 1
    assert flows.call("flow-run", "retry", run[:-4]).returncode == 1
    flows.touch("go")
    assert flows.call("flow-run", "retry", run).returncode == 0
    assert flows.bodies().count("stored-1") == 1
    assert [one["attempt"] for one in flows.inspect(run)["reopenings"]] == [2, 3, 4]


def test_inspect_says_who_asked_for_which_attempt(flows: Flows) -> None:
    run = flows.run("failing")
    assert flows.inspect(run)["reopenings"] == []
    flows.touch("go")
    flows.call("flow-run", "retry", run)
    [again] = flows.inspect(run)["reopenings"]
    assert re.fullmatch(rf".+@{re.escape(os.uname().nodename)}, process \d+", again["asked_by"])
    shown = flows.call("flow-run", "inspect", run).stdout
    assert re.search(rf"Run again\nFROM ATTEMPT +AT +ASKED BY\n2 .*{re.escape(again['asked_by'])}\n", shown)
    assert f"Run again, asked for by {again['asked_by']}." in shown


def test_a_killed_run_is_marked_crashed_and_goes_on(flows: Flows) -> None:
    run = flows.killed("waiting")
    assert flows.state(run) == "Crashed"
    flows.touch("go")
    assert flows.json("flow-run", "retry", run)["result"] == 3
    assert flows.bodies() == ["stored-1", "loose-2"]
    states = [(one["attempt"], one["name"]) for one in flows.inspect(run)["states"]]
    assert states == [(0, "Pending"), (1, "Running"), (1, "Crashed"), (1, "Pending"), (2, "Running"), (2, "Completed")]
    assert flows.json("task-run", "ls", "--state", "running") == []
    assert flows.call("db", "check").returncode == 0


def test_a_retry_that_is_killed_may_be_retried(flows: Flows) -> None:
    run = flows.run("failing")
    # Before anything of the second attempt could be recorded, twice.
    for _ in range(2):
        killed = flows.call("flow-run", "retry", run, PREFECT_CORE_CRASH_AT="engine.flush.before")
        assert killed.returncode == -signal.SIGKILL
        assert flows.state(run) == "Crashed"
    flows.touch("go")
    assert flows.json("flow-run", "retry", run)["result"] == 32
    inspected = flows.inspect(run)
    assert [one["attempt"] for one in inspected["reopenings"]] == [2, 3, 4]
    assert [one["attempt"] for one in inspected["attempts"]] == [1, 4]
    assert len({one["asked_by"] for one in inspected["reopenings"]}) == 3


def test_a_cancelled_run_goes_on(flows: Flows) -> None:
    run = flows.run("cancelling")
    assert flows.state(run) == "Cancelled"
    flows.touch("go")
    assert flows.json("flow-run", "retry", run)["result"] == "done"
    assert flows.bodies() == ["stored-1"]


def test_an_interrupted_run_goes_on(flows: Flows) -> None:
    with flows.under_way("waiting") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    run = flows.newest("waiting")
    assert flows.state(run) == "Crashed"
    flows.touch("go")
    assert flows.json("flow-run", "retry", run)["result"] == 3
    assert flows.bodies() == ["stored-1", "loose-2"]


def test_a_completed_run_is_refused_without_loading_its_file(flows: Flows) -> None:
    flows.touch("go")
    run = flows.run("failing")
    flows.write("raise RuntimeError('loaded')")
    assert "completed; there is nothing to run again" in refused(flows, run)


def test_a_run_under_way_in_a_live_process_is_refused_even_by_force(flows: Flows) -> None:
    with flows.under_way("waiting") as process:
        run = flows.newest("waiting")
        for options in ([], ["--force"]):
            said = refused(flows, run, *options)
            assert f"its process {process.pid} on {os.uname().nodename} still lives" in said
        process.kill()
        process.wait()
    flows.touch("go")
    assert flows.call("flow-run", "retry", run).returncode == 0


def test_a_run_of_another_machine_is_refused_unless_forced(flows: Flows) -> None:
    run = flows.killed("waiting")
    with flows.history() as connection:
        connection.execute("UPDATE process SET host = 'elsewhere', boot_id = 'another', pid = 17")
        connection.execute("UPDATE flow_run SET state_type = 'RUNNING', state_name = 'Running', ended_us = NULL")
        connection.execute("UPDATE lease SET taken_by = NULL")
    assert "Running in process 17 on elsewhere" in (said := refused(flows, run))
    assert "--force" in said
    flows.touch("go")
    assert flows.json("flow-run", "retry", run, "--force")["result"] == 3


def test_a_run_that_failed_on_another_machine_is_not_refused(flows: Flows) -> None:
    run = flows.run("failing")
    with flows.history() as connection:
        connection.execute("UPDATE process SET host = 'elsewhere'")
    flows.touch("go")
    assert flows.call("flow-run", "retry", run).returncode == 0


def test_a_subflow_run_is_refused_and_the_outermost_run_named(flows: Flows) -> None:
    run = flows.run("outer")
    inner = flows.newest("failing_inner")
    assert f"{flows.inspect(run)['name']} ({run})" in refused(flows, inner)
    flows.touch("go")
    flows.bodies()
    assert flows.call("flow-run", "retry", run).returncode == 0
    # The subflow run that failed is run again, with what was stored in it; the other one is taken over as a whole.
    assert flows.bodies() == []
    assert [one["state"]["name"] for one in flows.inspect(inner)["attempts"]] == ["Failed", "Completed"]


def test_a_flow_without_entry_point_is_refused(flows: Flows) -> None:
    run = flows.json("run", "work.py:local")["id"]
    assert "Move it to the top level of a file" in refused(flows, run)


def test_a_run_that_is_not_there_is_an_error(flows: Flows) -> None:
    called = flows.call("flow-run", "retry", "nobody")
    assert (called.returncode, called.stderr) == (
        1,
        "Error: The history holds no flow run with id or name 'nobody'.\n",
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (None, "There is no file"),
        ("raise RuntimeError('broken')", "broken"),
        ("def (", "SyntaxError"),
        ("x = 1", "failing"),
        ("from prefect_core import flow\n@flow\ndef failing(): ...", "takes none now"),
        ("from prefect_core import flow\n@flow\ndef failing(begin): ...", "takes begin now"),
        ("from prefect_core import flow\n@flow\ndef failing(start, more): ...", "takes start, more now"),
    ],
)
def test_a_file_that_does_not_fit_any_more_is_refused(flows: Flows, code: str | None, words: str) -> None:
    run = flows.run("failing")
    if code is None:
        (flows.folder / "work.py").unlink()
    else:
        flows.write(code)
    assert words in refused(flows, run)


def test_a_file_that_changed_runs_with_a_warning(flows: Flows) -> None:
    run = flows.run("failing")
    flows.bodies()
    flows.write(WORK.replace("x * 10", "x * 1000").replace('note(f"loose', 'note("new");note(f"loose'))
    flows.touch("go")
    called = flows.call("flow-run", "retry", run)
    assert called.returncode == 0
    assert "Flow 'failing' has changed since" in called.stderr
    assert "The body of 'stored' has changed" in called.stderr
    assert flows.bodies().count("new") == 2
    assert "its body has changed since" in flows.explain(run, "stored-0")["reasons"][0]


def test_a_file_that_moved_is_refused_and_found_again_when_it_is_back(flows: Flows) -> None:
    run = flows.run("failing")
    (flows.folder / "work.py").rename(flows.folder / "moved.py")
    assert str(flows.folder / "work.py") in refused(flows, run)
    (flows.folder / "moved.py").rename(flows.folder / "work.py")
    flows.touch("go")
    assert flows.call("flow-run", "retry", run).returncode == 0


def test_a_run_is_retried_from_another_folder(flows: Flows, tmp_path_factory: pytest.TempPathFactory) -> None:
    run = flows.run("coroutine")
    flows.touch("go")
    elsewhere = Flows(tmp_path_factory.mktemp("elsewhere"), flows.home)
    elsewhere.touch("go")
    assert elsewhere.json("flow-run", "retry", run)["result"] == 10


def test_parameters_that_json_cannot_hold_are_named_and_refused(flows: Flows) -> None:
    run = flows.run("unheld")
    said = refused(flows, run)
    assert "JSON can't hold its parameter point, and they were not stored" in said
    assert "persist_result=True" in said


def test_parameters_that_json_cannot_hold_come_back_if_they_were_stored(flows: Flows) -> None:
    run = flows.run("held", "-p", "other=2")
    flows.touch("go")
    assert flows.json("flow-run", "retry", run)["result"] == 3
    assert flows.bodies() == ["3", "3"]


def test_stored_parameters_that_were_dropped_are_named_and_refused(flows: Flows) -> None:
    run = flows.run("held")
    [row] = flows.json("results", "ls", "--flow-run", run)
    assert (row["parameters_of"], row["run_ids"]) == ([run], [])
    flows.call("results", "prune", "--keep-total", "0")
    assert "what was stored of them was dropped" in refused(flows, run)


def test_stored_parameters_that_are_damaged_are_refused(flows: Flows) -> None:
    run = flows.run("held")
    with flows.history() as connection:
        connection.execute("UPDATE result SET value = x'00'")
    assert "The stored parameters of" in refused(flows, run)


@pytest.mark.parametrize(
    ("flow", "given"), [("coroutine", "start=1"), ("generator", "n=2"), ("async_generator", "n=2")]
)
def test_flows_of_every_kind_go_on(flows: Flows, flow: str, given: str) -> None:
    run = flows.run(flow, "-p", given)
    before = flows.bodies()
    assert before
    flows.touch("go")
    assert flows.call("flow-run", "retry", run).returncode == 0
    assert flows.state(run) == "Completed"
    assert flows.bodies() == []


def test_arguments_of_every_kind_come_back(flows: Flows) -> None:
    (flows.folder / "script.py").write_text(
        "import work\nwork.variadic('mon', 1, 'two', deep=[3, None], more=4.5, return_state=True)\n"
    )
    flows.python("script.py")
    run = flows.newest("variadic")
    flows.touch("go")
    assert flows.call("flow-run", "retry", run).returncode == 0
    first, second = flows.bodies()
    assert first == second == "mon(1,'two')[3,None]{'more':4.5}"
    assert flows.inspect(run)["name"] == "of-mon"


def test_a_script_run_by_python_is_retried_by_the_command(flows: Flows) -> None:
    flows.write(f"{WORK}\nif __name__ == '__main__':\n    failing(return_state=True)\n")
    flows.python("work.py")
    run = flows.newest("failing")
    flows.bodies()
    flows.touch("go")
    assert flows.json("flow-run", "retry", run)["result"] == 32
    assert sorted(flows.bodies()) == ["loose-10", "loose-20"]


def test_the_tasks_of_a_retry_have_the_tags_of_their_run(flows: Flows) -> None:
    (flows.folder / "script.py").write_text(
        "import work\nwith work.tags('nightly', 'eu'):\n    work.tagged(return_state=True)\n"
    )
    flows.python("script.py")
    run = flows.newest("tagged")
    flows.touch("go")
    assert flows.json("flow-run", "retry", run)["result"] == ["eu", "nightly"]
    tasks = flows.json("task-run", "ls", "--flow-run", run)
    assert [(one["name"], one["tags"]) for one in tasks] == [
        ("stored-1", ["eu", "nightly"]),
        ("stored-0", ["eu", "nightly"]),
    ]


def test_a_flow_with_retries_gets_them_anew(flows: Flows) -> None:
    run = flows.run("trying_twice")
    assert flows.bodies() == ["body", "body"]
    assert flows.call("flow-run", "retry", run).returncode == 1
    assert flows.bodies() == ["body", "body"]
    inspected = flows.inspect(run)
    assert [one["attempt"] for one in inspected["attempts"]] == [1, 2, 3, 4]
    assert [one["attempt"] for one in inspected["reopenings"]] == [3]


def test_a_result_that_memory_does_not_keep_is_shown(flows: Flows) -> None:
    run = flows.run("out_of_memory")
    flows.touch("go")
    assert flows.json("flow-run", "retry", run)["result"] == [1, 2]


def test_the_runner_can_be_another_one(flows: Flows) -> None:
    run = flows.run("failing")
    flows.touch("go")
    called = flows.json("flow-run", "retry", run, "--task-runner", "processes:2")
    assert (called["task_runner"], called["result"]) == ("ProcessPoolTaskRunner", 32)


def test_a_runner_that_is_not_known_changes_nothing(flows: Flows) -> None:
    run = flows.run("failing")
    before = flows.inspect(run)
    called = flows.call("flow-run", "retry", run, "--task-runner", "nonsense")
    assert called.returncode == 2
    assert "nonsense" in called.stderr
    assert flows.inspect(run) == before


def test_progress_is_told_while_json_has_standard_output_for_itself(flows: Flows) -> None:
    run = flows.run("failing")
    flows.touch("go")
    called = flows.call("flow-run", "retry", run, "--progress", "--json")
    assert json.loads(called.stdout)["exit_code"] == 0
    assert "loose: 2/2 ended (2 Completed)" in called.stderr
