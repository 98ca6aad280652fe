"""The commands that read runs: flow-run, task-run, flow."""

from __future__ import annotations

import json
import os
from datetime import datetime
from uuid import UUID

import pytest

from prefect_core import flow, history, settings, task
from prefect_core.runs import FlowRun
from prefect_core.states import Completed, Pending, State

pytestmark = pytest.mark.usefixtures("ran")


def names(called):
    return [row["name"] for row in called.json]


def test_flow_runs_are_listed_newest_first(call):
    called = call("flow-run", "ls")
    assert called.code == 0
    assert called.lines[0] == ["NAME", "FLOW", "STATE", "CREATED", "DURATION", "ID"]
    assert [line[:3] for line in called.lines[1:]] == [
        ["mishap", "mishap", "Failed"],
        ["inner-of-2", "inner", "Completed"],
        ["shop-3", "shop", "Completed"],
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--flow", "shop"], ["shop-3"]),
        (["--state", "failed"], ["mishap"]),
        (["--state", "Failed", "--state", "completed"], ["mishap", "inner-of-2", "shop-3"]),
        (["--state", "TimedOut"], []),
        (["--state", "TimedOut", "--state", "failed"], ["mishap"]),
        (["--tag", "eu"], ["mishap"]),
        (["--tag", "eu", "--tag", "us"], []),
        (["--since", "1h"], ["mishap", "inner-of-2", "shop-3"]),
        (["--since", "2100-01-01"], []),
        (["--limit", "1"], ["mishap"]),
    ],
)
def test_the_list_of_flow_runs_can_be_narrowed(call, options, expected):
    assert names(call("flow-run", "ls", "--json", *options)) == expected


def test_a_list_that_was_cut_says_so_on_standard_error(call):
    called = call("flow-run", "ls", "--limit", "2", "--json")
    assert len(called.json) == 2
    assert called.err == "There are more than 2; --limit shows more.\n"
    assert call("flow-run", "ls", "--limit", "3").err == ""


def test_a_flow_run_in_json_has_its_ids_times_and_state(call):
    by_name = {row["name"]: row for row in call("flow-run", "ls", "--json").json}
    row = by_name["shop-3"]
    assert list(row) == [
        "id", "name", "flow_name", "flow_version", "entrypoint", "task_runner", "parameters", "parent_flow_run_id",
        "parent_task_run_id", "infrastructure_pid", "tags", "created", "started", "ended", "duration_seconds", "run_count", "state",
    ]  # fmt: skip
    assert UUID(row["id"]).version == 7
    assert datetime.fromisoformat(row["created"]) < datetime.fromisoformat(row["ended"])
    assert row["parameters"] == {"n": 3}
    assert row["infrastructure_pid"] == f"{os.uname().nodename}:{os.getpid()}"
    assert row["state"]["type"] == "COMPLETED"
    assert by_name["inner-of-2"]["parent_flow_run_id"] == row["id"]
    assert UUID(by_name["inner-of-2"]["parent_task_run_id"])
    assert by_name["mishap"]["tags"] == ["eu", "nightly"]


def test_a_flow_run_is_found_by_name_by_id_and_by_the_start_of_its_id(call):
    found = call("flow-run", "inspect", "mishap", "--json").json
    assert call("flow-run", "inspect", found["id"], "--json").json == found
    assert call("flow-run", "inspect", found["id"][:30], "--json").json == found


def test_inspecting_a_flow_run_shows_states_attempts_task_runs_and_subflows(call):
    found = call("flow-run", "inspect", "shop-3", "--json").json
    assert [state["name"] for state in found["states"]] == ["Pending", "Running", "Completed"]
    assert [attempt["attempt"] for attempt in found["attempts"]] == [1]
    assert found["task_runs_by_state"] == {"Completed": 3}
    # The third stands for the subflow run.
    assert sum(found["task_runs_by_worker"].values()) == 2
    assert [run["name"] for run in found["subflow_runs"]] == ["inner-of-2"]
    page = call("flow-run", "inspect", "shop-3").out
    assert "Flow run:    shop-3\n" in page
    assert "Task runs:   3 Completed\n" in page
    assert f"Process:     {found['infrastructure_pid']}\n" in page
    assert "Parameters\n  n: 3\n" in page
    assert "Workers\nWORKER" in page
    assert next(iter(found["task_runs_by_worker"])) in page
    assert "Subflow runs\n" in page
    assert "inner-of-2" in page


def test_the_page_of_a_subflow_run_names_the_run_around_it(call):
    around = call("flow-run", "inspect", "shop-3", "--json").json["id"]
    assert f"Called in:   {around}\n" in call("flow-run", "inspect", "inner-of-2").out


def test_a_run_that_is_not_there_is_an_error_in_one_line(call):
    for arguments in (
        ["flow-run", "inspect", "nobody"],
        ["task-run", "inspect", "nobody"],
        ["flow-run", "logs", "nobody"],
    ):
        called = call(*arguments)
        assert (called.code, called.out) == (1, "")
        assert called.err.startswith("Error: The history holds no ")
        assert called.err.count("\n") == 1


def test_the_log_of_a_flow_run_holds_what_its_runs_logged_and_how_they_ended(call):
    lines = [line.split(" | ", 1)[1] for line in call("flow-run", "logs", "shop-3").out.splitlines()]
    assert lines[0] == "WARNING | Flow run 'shop-3' - few in stock"
    assert lines[-1] == "INFO    | Flow run 'shop-3' - Finished in state Completed()"
    assert "INFO    | Task run 'double-0' - doubling 3" in lines
    assert lines.count("INFO    | Task run 'double-0' - Finished in state Completed()") == 2
    assert lines.index("INFO    | Task run 'double-0' - doubling 3") < lines.index(
        "INFO    | Task run 'double-1' - doubling 6"
    )


def test_the_log_can_be_narrowed_to_a_level_and_to_a_task(call):
    assert [line["message"] for line in call("flow-run", "logs", "shop-3", "--level", "warning", "--json").json] == [
        "few in stock"
    ]
    by_task = call("flow-run", "logs", "shop-3", "--task", "double-1", "--json").json
    assert {line["run"]["name"] for line in by_task} == {"double-1"}
    assert {line["run"]["type"] for line in by_task} == {"task_run"}
    assert call("flow-run", "logs", "shop-3", "--task", "nothing").out == ""


def test_the_end_of_a_failed_task_run_comes_after_its_traceback(call):
    lines = call("flow-run", "logs", "mishap", "--level", "ERROR", "--json").json
    assert "ValueError: two is not allowed" in lines[-3]["message"]
    assert (
        lines[-2]["message"]
        == "Finished in state Failed('Task run encountered an exception ValueError: two is not allowed')"
    )
    assert lines[-1]["run"]["type"] == "flow_run"


def test_many_completed_task_runs_leave_the_log_at_debug(call):
    @task
    def small(x):
        return x

    @flow(flow_run_name="large")
    def large():
        small.map(range(5))

    with settings.temporary_settings(logging_task_lines=2):
        large()
        history.current().flush()
        shown = call("flow-run", "logs", "large", "--json").json
        all_lines = call("flow-run", "logs", "large", "--level", "DEBUG", "--json").json
    assert len([line for line in shown if line["run"]["type"] == "task_run"]) == 2
    assert len([line for line in all_lines if line["run"]["type"] == "task_run"]) == 5


def test_task_runs_are_listed_by_flow_run_task_and_state(call):
    assert names(call("task-run", "ls", "--flow-run", "mishap", "--json")) == ["unlucky-1", "unlucky-0"]
    assert names(call("task-run", "ls", "--flow-run", "mishap", "--state", "failed", "--json")) == ["unlucky-1"]
    assert names(call("task-run", "ls", "--flow-run", "shop-3", "--task", "double", "--json")) == [
        "double-1",
        "double-0",
    ]
    assert len(call("task-run", "ls").lines) == 1 + 7
    assert call("task-run", "ls", "--limit", "1").err == "There are more than 1; --limit shows more.\n"


def test_inspecting_a_task_run_shows_each_attempt(call):
    found = call("task-run", "inspect", "unlucky-1", "--json").json
    assert [state["name"] for state in found["states"]] == ["Pending", "Running", "AwaitingRetry", "Retrying", "Failed"]
    assert [attempt["state"]["name"] for attempt in found["attempts"]] == ["AwaitingRetry", "Failed"]
    page = call("task-run", "inspect", "unlucky-1").out
    assert "Task run:    unlucky-1\n" in page
    assert "\nAttempts\n" in page
    assert "two is not allowed" in page


def test_inspecting_a_task_run_shows_where_its_inputs_come_from(call):
    owner = call("flow-run", "inspect", "shop-3", "--json").json["id"]
    last, first = call("task-run", "ls", "--flow-run", owner, "--task", "double", "--json").json
    assert last["inputs"] == [{"parameter": "x", "kind": "task_run", "id": first["id"]}]
    assert last["flow_run_id"] == owner
    lines = [line.split() for line in call("task-run", "inspect", last["id"]).out.splitlines()]
    assert ["x", "double-0", first["id"]] in lines


def test_the_task_run_that_stands_for_a_subflow_run_names_it(call):
    (tracking,) = call("task-run", "ls", "--flow-run", "shop-3", "--task", "inner", "--json").json
    assert tracking["child_flow_run_id"] == call("flow-run", "inspect", "inner-of-2", "--json").json["id"]


def test_flows_are_listed_with_their_newest_run(call):
    shown = {line[0]: line[1:4] for line in call("flow", "ls").lines[1:]}
    assert shown == {
        "inner": ["1", "inner-of-2", "Completed"],
        "mishap": ["1", "mishap", "Failed"],
        "shop": ["1", "shop-3", "Completed"],
    }
    assert call("flow", "ls", "--json").json[1]["last_run"]["state"] == {"type": "FAILED", "name": "Failed"}


def test_a_deleted_flow_run_is_gone_with_all_that_was_in_it(call):
    called = call("flow-run", "delete", "shop-3", "mishap", "--yes")
    assert (called.code, called.out) == (0, "")
    assert len(called.err.splitlines()) == 2
    assert call("flow-run", "ls", "--json").json == []
    assert call("task-run", "ls", "--json").json == []


def test_nothing_is_deleted_if_one_of_the_names_is_unknown(call):
    assert call("flow-run", "delete", "shop-3", "nobody", "--yes").code == 1
    assert len(call("flow-run", "ls", "--json").json) == 3


def test_a_flow_run_that_has_not_ended_is_deleted_only_by_force(call):
    run = FlowRun(Pending(), "stuck", "stuck-flow")
    history.current().created(run)
    history.current().flush()
    called = call("flow-run", "delete", "stuck", "--yes")
    assert called.code == 1
    assert "--force" in called.err
    assert call("flow-run", "delete", "stuck", "--yes", "--force").code == 0
    assert "stuck" not in names(call("flow-run", "ls", "--json"))


def test_what_the_history_keeps_of_odd_parameters_is_shown(call):
    run = FlowRun(Pending(), "odd", "odd-flow")
    run.parameters = {"greeting": "grüß\ngott", "nested": {"a": [1, 2]}}
    history.current().created(run)
    state: State = Completed()
    run.state = state
    history.current().entered(run, state)
    history.current().flush()
    assert call("flow-run", "inspect", "odd", "--json").json["parameters"] == run.parameters
    page = call("flow-run", "inspect", "odd").out
    assert f"greeting: {json.dumps('grüß' + chr(10) + 'gott', ensure_ascii=False)}\n" in page
