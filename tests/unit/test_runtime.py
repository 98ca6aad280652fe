"""`prefect_core.runtime`, tags, and the run context on threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest

import prefect_core
from prefect_core import flow, runtime, tags, task
from prefect_core.context import FlowRunContext, TaskRunContext, carried, current_tags, get_run_context
from prefect_core.errors import MissingContextError
from prefect_core.runtime import flow_run, task_run


@pytest.fixture(autouse=True)
def _in_memory(recorded):
    """Record in memory."""


def everything(room):
    return {name: getattr(room, name) for name in dir(room)}


def test_outside_of_runs_everything_is_empty():
    assert everything(flow_run) == {
        "flow_name": None, "flow_version": None, "id": None, "name": None, "parameters": {}, "parent_flow_run_id": None,
        "root_flow_run_id": None, "run_count": 0, "scheduled_start_time": None, "tags": [],
    }  # fmt: skip
    assert everything(task_run) == {
        "id": None,
        "name": None,
        "parameters": {},
        "run_count": 0,
        "tags": [],
        "task_name": None,
    }


def test_a_flow_sees_its_run(recorded):
    @flow(name="F", flow_run_name="x", version="7")
    def looking(a, b=2):
        return everything(flow_run)

    with tags("t", "s"):
        seen = looking(1)
    (row,) = recorded.flow_runs()
    assert seen.pop("scheduled_start_time") == datetime.fromtimestamp(row.created_us / 1e6, UTC)
    assert seen == {
        "id": str(row.id), "name": "x", "flow_name": "F", "flow_version": "7", "parameters": {"a": 1, "b": 2}, "tags": ["s", "t"],
        "parent_flow_run_id": None, "root_flow_run_id": str(row.id), "run_count": 1,
    }  # fmt: skip


def test_a_task_sees_its_run_and_that_of_its_flow(recorded):
    @task(name="T", tags={"t"})
    def looking(a):
        return everything(task_run), flow_run.name

    @flow(flow_run_name="x")
    def around():
        return looking.submit(1).result(), task_run.name

    (seen, name), outer = around()
    (row,) = recorded.task_runs()
    assert seen == {
        "id": str(row.id),
        "name": "T-0",
        "task_name": "T",
        "parameters": {"a": 1},
        "tags": ["t"],
        "run_count": 1,
    }
    assert name == "x"
    assert outer is None


def test_a_subflow_knows_its_parent_and_its_root(recorded):
    @flow
    def inner():
        return flow_run.parent_flow_run_id, flow_run.root_flow_run_id

    @flow
    def middle():
        return flow_run.id, inner()

    @flow
    def outer():
        return flow_run.id, middle()

    root, (parent, seen) = outer()
    assert seen == (parent, root)


def test_the_run_count_grows_with_retries():
    counts = []

    @task(retries=2)
    def failing():
        counts.append(task_run.run_count)
        raise ValueError

    @flow(retries=1)
    def around():
        counts.append(-flow_run.run_count)
        failing.submit().wait()

    around(return_state=True)
    assert counts == [-1, 1, 2, 3, -2, 1, 2, 3]


def test_a_name_may_be_made_from_the_runtime():
    def name():
        return f"{flow_run.flow_name}-with-{flow_run.parameters['who']}-and-{flow_run.parameters['limit']}"

    @flow(flow_run_name=name)
    def my_flow(who: str, limit: int = 100):
        return flow_run.name

    assert my_flow(who="marvin") == "my-flow-with-marvin-and-100"


def test_unknown_attributes_are_named():
    with pytest.raises(AttributeError, match=r"module 'prefect_core\.runtime\.flow_run' has no attribute 'boop'"):
        _ = flow_run.boop
    with pytest.raises(AttributeError, match="boop"):
        _ = runtime.task_run.boop


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("NAME", "fake", "fake"),
        ("RUN_COUNT", "3", 3),
        ("SCHEDULED_START_TIME", "2030-01-02T03:04:05+00:00", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("NEW", "anything", "anything"),
        ("NAME", "", ""),
    ],
)
def test_the_environment_takes_the_place_of_an_attribute(monkeypatch, name, text, value):
    monkeypatch.setenv(f"PREFECT_CORE__RUNTIME__FLOW_RUN__{name}", text)
    assert getattr(flow_run, name.lower()) == value

    @flow(flow_run_name="real")
    def looking():
        return getattr(flow_run, name.lower())

    assert looking() == value


def test_what_is_no_text_can_not_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("PREFECT_CORE__RUNTIME__TASK_RUN__TAGS", "a,b")
    with pytest.raises(ValueError, match="PREFECT_CORE__RUNTIME__TASK_RUN__TAGS is set, but tags of"):
        _ = task_run.tags
    monkeypatch.setenv("PREFECT_CORE__RUNTIME__TASK_RUN__RUN_COUNT", "many")
    with pytest.raises(ValueError, match="RUN_COUNT is 'many'"):
        _ = task_run.run_count


def test_the_flow_run_id_may_be_given_to_a_process(monkeypatch):
    monkeypatch.setenv("PREFECT_CORE__FLOW_RUN_ID", "abc")
    assert flow_run.id == "abc"


def test_it_is_found_however_it_is_imported():
    assert prefect_core.runtime.flow_run is flow_run
    program = "import prefect_core; import prefect_core.runtime.task_run as t; print(prefect_core.runtime.flow_run.tags, t.run_count)"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[] 0\n"
    )


def test_tags_of_nested_blocks_add_up_and_end_with_their_block():
    with tags("a") as outer:
        assert outer == {"a"}
        with tags("b", "a") as inner:
            assert inner == {"a", "b"}
        assert current_tags() == {"a"}
    assert current_tags() == frozenset()


def test_tags_reach_the_runs_made_inside_the_block(recorded):
    @task(tags=["own"])
    def working():
        return sorted(task_run.tags)

    @flow
    def around():
        with tags("inner"):
            return working.submit().result(), working()

    with tags("outer"):
        assert around() == (["inner", "outer", "own"], ["inner", "outer", "own"])
    assert recorded.flow_runs()[0].tags == ("outer",)


def test_a_tag_is_text():
    with pytest.raises(TypeError, match="Expected strings for tags; got int instead"), tags(1):
        pass


def on_a_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_of_the_users_is_in_no_run():
    @flow
    def around():
        return on_a_thread(FlowRunContext.get), on_a_thread(current_tags)

    with tags("t"):
        assert around() == (None, frozenset())


def test_carried_takes_run_and_tags_to_a_thread(recorded):
    @task
    def working(x):
        return flow_run.name, task_run.tags, x

    @flow(flow_run_name="x")
    def around():
        with tags("t"):
            return on_a_thread(
                carried(lambda: (flow_run.name, sorted(current_tags()), working(1), working.submit(2).result()))
            )

    assert around() == ("x", ["t"], ("x", ["t"], 1), ("x", ["t"], 2))
    assert [row.name for row in recorded.task_runs()] == ["working-0", "working-1"]


def test_carried_may_be_called_from_many_threads_at_once():
    together = threading.Barrier(4)
    names = []

    @task
    def around(_):
        def work():
            together.wait()
            names.append(TaskRunContext.get().task_run.name)

        work = carried(work)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    around(1)
    assert names == ["around-0"] * 4


def test_carried_hands_arguments_value_and_error_on():
    assert carried(divmod)(7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        carried(divmod)(7, 0)


def test_outside_of_runs_there_is_no_context():
    with pytest.raises(
        MissingContextError, match=r"No run context available\. You are not in a flow or task run context\."
    ):
        get_run_context()
    assert FlowRunContext.get() is None
    assert TaskRunContext.get() is None
