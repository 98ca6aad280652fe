"""`prefect-core run`, in this process."""

from __future__ import annotations

import pytest

from prefect_core import history, settings
from prefect_core.cli.watching import _Watched
from prefect_core.engine.flow_run import runner_overrides

FLOWS = """
from prefect_core import flow, task

@task
def double(x):
    return 2 * x

@flow
def subflow(n):
    return sum(double.map(range(n)).result())

@flow(log_prints=False)
def main_flow(n: int = 3, name: str = "x"):
    print("hello", name)
    double.submit(n).wait()
    return {"n": n, "sum": subflow(n)}

@flow
def fails():
    raise ValueError("on purpose")

@flow
def fails_in_a_task():
    double.submit(None).wait()

@flow
def returns_an_object():
    return object()

@flow
async def asynchronous(n: int = 1):
    return await double.submit(n)

@flow
def yields(n: int = 3):
    for i in range(n):
        yield double(i)

@flow
def yields_and_fails():
    yield 1
    raise ValueError("on purpose")

@flow
async def yields_asynchronously():
    yield 1
"""


@pytest.fixture(autouse=True)
def file(folder):
    (folder / "run_these_flows.py").write_text(FLOWS)


def run(call, flow, *options):
    return call("run", f"run_these_flows.py:{flow}", *options)


def test_a_flow_that_completes_gives_0(call):
    called = run(call, "main_flow", "-p", "name=you")
    assert (called.code, called.out) == (0, "hello you\n")
    assert call("flow-run", "ls", "--flow", "main-flow", "--json").json[0]["parameters"] == {"n": 3, "name": "you"}


@pytest.mark.parametrize("flow", ["fails", "fails_in_a_task", "yields_and_fails"])
def test_a_flow_that_fails_gives_1(call, flow):
    called = run(call, flow, "--json")
    assert called.code == 1
    assert called.json["exit_code"] == 1
    assert called.json["state"]["type"] == "FAILED"
    assert called.json["result"] is None


def test_json_tells_ids_state_and_result_and_what_is_printed_goes_elsewhere(call):
    called = run(call, "main_flow", "-p", "n=4", "--json")
    assert called.json["result"] == {"n": 4, "sum": 12}
    assert called.json["state"]["name"] == "Completed"
    assert call("flow-run", "inspect", called.json["id"], "--json").json["name"] == called.json["name"]
    assert "hello x\n" in called.err


def test_a_result_that_json_can_t_hold_is_named(call):
    assert run(call, "returns_an_object", "--json").json["result"] == "<object>"


@pytest.mark.parametrize(("flow", "result"), [("asynchronous", 2), ("yields", None), ("yields_asynchronously", None)])
def test_functions_of_every_kind_are_run_to_their_end(call, flow, result):
    called = run(call, flow, "--json")
    assert (called.code, called.json["result"]) == (0, result)
    assert called.json["state"]["type"] == "COMPLETED"


def test_the_runner_of_the_root_flow_can_be_replaced(call):
    assert run(call, "main_flow", "--task-runner", "sequential", "--json").json["task_runner"] == "SequentialTaskRunner"
    (inner,) = call("flow-run", "ls", "--flow", "subflow", "--json").json
    assert inner["task_runner"] == "ConcurrentTaskRunner"


def test_the_runner_of_a_subflow_can_be_replaced(call):
    called = run(call, "main_flow", "--task-runner", "concurrent:2", "--task-runner", "subflow=sequential", "--json")
    assert called.json["task_runner"] == "ConcurrentTaskRunner"
    (inner,) = call("flow-run", "ls", "--flow", "subflow", "--json").json
    assert inner["task_runner"] == "SequentialTaskRunner"
    assert runner_overrides == {}


def test_a_runner_for_a_subflow_that_never_ran_is_remarked_on(call):
    called = run(call, "asynchronous", "--task-runner", "nobody=sequential")
    assert called.code == 0
    assert "No subflow called 'nobody' ran" in called.err


@pytest.mark.parametrize("runner", ["nonsense", "concurrent:many", "subflow=nonsense", "dusk:tcp://host:8786?x=1"])
def test_a_runner_that_can_t_be_is_a_wrong_call(call, runner):
    called = run(call, "main_flow", "--task-runner", runner)
    assert (called.code, called.out) == (2, "")
    assert call("flow-run", "ls", "--json").json == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.py"], "There is no file 'missing.py'"),
        (["run_these_flows.py"], "has 9 flows"),
        (["run_these_flows.py:nothing"], "has no flow called 'nothing'"),
        (["run_these_flows.py:main_flow", "-p", "colour=red"], "has no parameter 'colour'"),
        (["run_these_flows.py:subflow"], "needs 'n'"),
    ],
)
def test_a_flow_that_can_t_be_called_is_a_wrong_call(call, arguments, message):
    called = call("run", *arguments)
    assert (called.code, called.out) == (2, "")
    assert message in called.err


def test_a_file_that_raises_gives_1_and_one_line(call, folder):
    (folder / "raising_flow_file.py").write_text("raise RuntimeError('not today')")
    called = call("run", "raising_flow_file.py")
    assert called.code == 1
    assert called.err.startswith("Error: raising_flow_file.py raised RuntimeError while it was loaded: not today (")
    assert called.err.count("\n") == 1


def test_parameters_that_don_t_fit_their_annotations_fail_the_run(call):
    called = run(call, "main_flow", "-p", "n=many", "--json")
    assert called.code == 1
    assert called.json["state"]["message"].startswith("Validation of flow parameters failed")


def test_a_home_that_can_t_be_used_stops_the_run_before_it_starts(call, folder, monkeypatch):
    (folder / "in-the-way").touch()
    monkeypatch.setenv("PREFECT_CORE_HOME", str(folder / "in-the-way"))
    settings.forget()
    called = run(call, "main_flow")
    assert (called.code, called.out) == (1, "")
    assert "PREFECT_CORE_HOME" in called.err


def test_progress_ends_with_a_line_for_each_task(call):
    called = run(call, "main_flow", "--progress")
    assert called.code == 0
    shown = [line for line in called.err.splitlines() if " ended (" in line]
    assert shown[-3:] == [
        "double: 1/1 ended (1 Completed)",
        "subflow: 1/1 ended (1 Completed)",
        "subflow > double: 3/3 ended (3 Completed)",
    ]


def test_nobody_watches_the_recorder_when_the_run_is_over(call):
    run(call, "main_flow", "--progress")
    run(call, "fails")
    assert not isinstance(history.current(), _Watched)


def test_a_flow_that_the_file_calls_itself_runs_once(call, folder):
    (folder / "calls_its_flow.py").write_text(
        "from prefect_core import flow\n\n@flow(log_prints=False)\ndef main_flow():\n    print('hello')\n\nmain_flow()\n"
    )
    called = call("run", "calls_its_flow.py")
    assert (called.code, called.out) == (0, "hello\n")
    assert "flow 'main-flow' will not be executed" in called.err
    assert len(call("flow-run", "ls", "--flow", "main-flow", "--json").json) == 1
