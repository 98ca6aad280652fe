"""`task-run explain`: why a result was taken over, or why a body ran."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from prefect_core import history

WORK = """
import os
from prefect_core import flow, runtime, task

def is_first():
    return not os.path.exists("go")

def fail_once():
    if is_first():
        raise ValueError("not yet")

class Opaque:
    def __init__(self): self.lock = __import__("threading").Lock()

@task(persist_result=True)
def load(path, rows=1):
    return [path] * rows

@task(persist_result=True)
def count(values):
    return len(values)

@task
def loose(x):
    return x

@task(persist_result=True, refresh_cache=True)
def fresh(x):
    return x

@task(persist_result=True)
def unlucky(x):
    fail_once()
    return x

@task(persist_result=True, refresh_cache=True)
def fickle(x):
    if not is_first():
        raise ValueError("no more")
    return [x]

@task(persist_result=True)
def take(thing):
    return 1

@task(persist_result=True)
def around(x):
    return load(x), loose(x)

@task(persist_result=True)
def states(x):
    return load(x, return_state=True)

@flow(persist_result=True)
def inner(path):
    return load(path)

@flow
def plain(path):
    return load(path)

@flow
def growing(path):
    return load(path, 1 if is_first() else 2)

@flow(retries=1)
def trying():
    loose(1)
    if runtime.flow_run.run_count == 1:
        raise ValueError("not yet")
"""


class Explained:
    """Runs the body of a flow, fails it at the end, and runs it again by the command line; explains task runs of it."""

    def __init__(self, call, folder: Path) -> None:
        self.call = call
        self.folder = folder
        self.run = ""

    def flow(self, body: str) -> None:
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        (self.folder / "work.py").write_text(f"{WORK}\n@flow\ndef main():\n{lines}\n    fail_once()\n")
        self.run = self.call("run", "work.py:main", "--json").json["id"]

    def again(self) -> None:
        (self.folder / "go").touch()
        called = self.call("flow-run", "retry", self.run)
        assert called.code == 0, called.err

    def of(self, name: str, newest: int = 0):
        runs = [run for run in self.call("task-run", "ls", "--json").json if run["name"] == name]
        return self.call("task-run", "explain", runs[newest]["id"], "--json").json

    def why(self, name: str, newest: int = 0) -> tuple[str, str]:
        """Return the verdict on the newest run of that name, and the first reason."""
        explained = self.of(name, newest)
        return explained["verdict"], explained["reasons"][0]


@pytest.fixture
def main(call, folder) -> Explained:
    return Explained(call, folder)


def test_a_first_execution_has_nothing_to_take(main):
    main.flow("load('a')")
    name = main.call("flow-run", "inspect", main.run, "--json").json["name"]
    assert main.why("load-0") == (
        "ran",
        f"Its body ran: it is the first execution of this call, and {name} has not been run again.",
    )
    assert main.of("load-0")["reasons"][1].startswith("Its value is stored: ")


def test_a_result_that_was_taken_over_says_from_where(main):
    main.flow("load('a', rows=2)")
    main.again()
    explained = main.of("load-0")
    assert explained["verdict"] == "taken over"
    assert explained["reasons"][0] == (
        "Its result was taken over: it completed as 'load-0' in an earlier attempt, with the same inputs."
    )
    assert explained["identity"]["is_known"] is True
    assert set(explained["identity"]["arguments"]) == {"path", "rows"}
    assert explained["result"]["serializer"] == "pickle"
    assert explained["nearest"] is None


def test_a_result_that_was_taken_over_twice_lists_both(main, call):
    main.flow("load('a')")
    call("flow-run", "retry", main.run)
    main.again()
    [run] = call("task-run", "ls", "--json").json
    shown = call("task-run", "explain", run["id"]).out
    assert shown.startswith(f"load-0 ({run['id']}): taken over\nIts result was taken over: ")
    assert "\nDecided so far\nAT " in shown
    assert shown.count("in an earlier attempt") == 3


def test_a_call_that_had_failed_runs_again(main):
    main.flow("unlucky.submit(1).wait()")
    main.again()
    assert main.why("unlucky-0")[0] == "ran"
    assert "Its body ran again: it had ended Failed('Task run encountered" in main.why("unlucky-0")[1]


def test_an_input_that_was_made_anew_is_named(main):
    main.flow("count(fresh.submit([1]))")
    main.again()
    assert main.why("fresh-0") == ("ran", "Its body ran again: it is to be refreshed.")
    assert main.why("count-0") == ("ran", "Its body ran again: fresh-0 was made anew.")


def test_an_input_that_did_not_complete_is_said(main):
    main.flow("x = unlucky.submit(1)\ncount.submit(x).wait()")
    verdict, why = main.why("count-0")
    assert verdict == "did not run"
    assert why.startswith("Its body did not run: it ended NotReady: Upstream task run")


def test_a_result_whose_input_fails_now_stays_as_it_was(main, call):
    main.flow("count.submit(fickle.submit(1)).wait()")
    (main.folder / "go").touch()
    assert call("flow-run", "retry", main.run).code == 1
    # It was not asked whether the result still stands, and for the next attempt it may.
    explained = main.of("count-0")
    assert explained["verdict"] == "ran"
    assert (
        "fickle-0 did not complete, which it takes; so its result was not asked for, and stands."
        in explained["reasons"][-1]
    )


def test_an_argument_that_differs_is_named(main):
    main.flow("load('a', rows=1 if is_first() else 2)")
    main.again()
    explained = main.of("load-1")
    assert explained["reasons"][0] == (
        f"Its body ran: in attempt 2 of {_name(main)}, no earlier call is this one: argument 'rows' differs from the nearest earlier "
        "call, load-0."
    )
    assert explained["nearest"]["name"] == "load-0"
    assert explained["nearest"]["other_arguments"] == ["rows"]
    assert main.of("load-0")["reasons"][-1].startswith("It was not called in attempt 2 of ")


def _name(main: Explained) -> str:
    name: str = main.call("flow-run", "inspect", main.run, "--json").json["name"]
    return name


def test_of_several_earlier_calls_the_nearest_is_named(main):
    main.flow("if is_first():\n    load('a', 1); load('b', 2)\nelse:\n    load('b', 3)")
    main.again()
    assert main.of("load-2")["nearest"]["name"] == "load-1"
    assert main.of("load-2")["nearest"]["other_arguments"] == ["rows"]


def test_several_arguments_that_differ_are_named(main):
    main.flow("load('a' if is_first() else 'b', 1 if is_first() else 2)")
    main.again()
    assert "argument 'path' and argument 'rows' differ from the nearest" in main.why("load-1")[1]


def test_an_argument_that_is_a_future_is_named_as_such(main):
    main.flow("count(load.submit('a' if is_first() else 'b'))")
    main.again()
    assert "argument 'values' (the value of another call) differs" in main.why("count-1")[1]


def test_what_a_call_waits_for_may_differ(main):
    main.flow("x = load.submit('a')\ncount([1], wait_for=None if is_first() else [x])")
    main.again()
    assert "what it waits for differs" in main.why("count-1")[1]


def test_one_call_more_than_before_is_counted(main):
    main.flow("for _ in range(1 if is_first() else 2):\n    load('a')")
    main.again()
    assert "there was one call with these arguments, and this is number 2" in main.why("load-1")[1]


def test_a_key_that_differs_is_named(main):
    main.flow("load.submit('a', key='x' if is_first() else 'y').wait()")
    main.again()
    explained = main.of("load-1")
    assert "it has the key 'y', and the nearest earlier call, load-0, had the key 'x'" in explained["reasons"][0]
    assert (explained["identity"]["key"], explained["nearest"]["other_key"]) == ("y", True)


def test_a_call_that_got_a_key_is_told_from_one_without(main):
    main.flow("load.submit('a', **({} if is_first() else {'key': 'y'})).wait()")
    main.again()
    assert "it has the key 'y', and the nearest earlier call, load-0, had no key" in main.why("load-1")[1]


def test_a_task_that_was_not_called_before_is_new(main):
    main.flow("load('a') if is_first() else count([1])")
    main.again()
    assert main.why("count-0")[1].endswith("count was not called here before.")


def test_a_nameless_function_with_other_code_is_new(main):
    main.flow("n = 1 if is_first() else 2\ntask(lambda: n, name='made', persist_result=True)()")
    main.again()
    assert main.why("made-1")[1].endswith("made has other code than before, or closes over other values.")


def test_a_call_in_a_subflow_run_that_is_new_is_new(main):
    main.flow("inner('a' if is_first() else 'b')")
    main.again()
    assert "it was called in inner-1, which is itself new in that attempt" in main.why("load-0", 0)[1]


def test_a_call_in_a_subflow_run_that_was_taken_over_was_not_made(main):
    main.flow("inner('a')")
    main.again()
    assert main.why("inner-0")[0] == "taken over"
    explained = main.of("load-0")
    assert explained["verdict"] == "ran"
    assert explained["reasons"][-1].endswith("inner-0, which calls it, was taken over as a whole.")


def test_a_call_is_compared_with_those_of_the_same_subflow_whatever_became_of_that(main):
    main.flow("growing('a')")
    main.again()
    assert "argument 'rows' differs from the nearest earlier call, load-0" in main.why("load-0")[1]


def test_a_subflow_run_is_explained_by_its_own_id(main, call):
    main.flow("inner('a')")
    main.again()
    [child] = call("flow-run", "ls", "--flow", "inner", "--json").json
    assert call("task-run", "explain", child["id"], "--json").json["name"] == "inner-0"
    called = call("task-run", "explain", main.run)
    assert called.code == 1
    assert "was not called in another flow run" in called.err
    called = call("task-run", "explain", "nobody")
    assert (called.code, called.err) == (1, "Error: The history holds no task run with id or name 'nobody'.\n")


def test_a_task_that_stores_nothing_runs_each_time(main):
    main.flow("loose(1)")
    main.again()
    for newest in (0, 1):
        assert main.why("loose-0" if newest else "loose-1") == (
            "ran",
            "Its body ran: nothing is stored of its value, as persist_result is off for it; so every execution runs it.",
        )
    assert "the call is another run in attempt 2 of" in main.of("loose-0")["reasons"][1]


def test_an_argument_without_a_stable_encoding_is_named(main):
    main.flow("take(Opaque())")
    verdict, why = main.why("take-0")
    assert verdict == "ran"
    assert why.startswith("Its body ran: it can't be known again, since argument 'thing' can't be told from others: ")
    assert why.endswith("A key says which call it is: submit(..., key=...).")
    assert main.of("take-0")["identity"]["is_known"] is False


def test_a_task_called_in_a_task_is_explained_too(main):
    main.flow("around('a')")
    main.again()
    assert main.why("around-0")[0] == "taken over"
    assert main.of("load-0")["reasons"][-1].endswith("around-0, which calls it, was taken over as a whole.")


def test_a_value_that_is_another_runs_state_is_not_stored(main):
    main.flow("states('a')")
    assert main.of("states-0")["reasons"][-1] == "Nothing is stored of its value."
    main.again()
    assert main.why("states-0") == ("ran", "Its body ran again: nothing is stored of its value.")


def test_a_task_outside_of_flows_is_known_by_nothing(call, folder):
    (folder / "work.py").write_text(WORK)
    (folder / "script.py").write_text(
        "import work\nfrom prefect_core import flow\n@flow\ndef f(): ...\nwork.load('a')\n"
    )
    assert call("run", "script.py:f").code == 0
    explained = call("task-run", "explain", "load-0", "--json").json
    assert "it was called outside of a flow run" in explained["reasons"][0]
    assert explained["result"] is not None


def test_flow_retries_in_process_take_from_memory_and_say_so(call, folder):
    (folder / "work.py").write_text(WORK)
    assert call("run", "work.py:trying").code == 0
    [run] = call("task-run", "ls", "--json").json
    explained = call("task-run", "explain", run["id"], "--json").json
    assert explained["verdict"] == "taken over"
    assert explained["reasons"][1] == "Nothing is stored of its value."


def test_a_dropped_result_is_said_before_and_after_the_call_runs_again(main, call):
    main.flow("load('a')")
    call("results", "prune", "--keep-total", "0")
    explained = main.of("load-0")
    assert explained["verdict"] == "ran"
    assert "Its stored result was dropped on " in explained["reasons"][1]
    assert "by results prune, asked for by " in explained["reasons"][1]
    main.again()
    assert main.why("load-0") == ("ran", "Its body ran again: nothing is stored of its value.")
    assert main.of("load-0")["reasons"][1].startswith("Its value is stored")


def test_a_damaged_result_is_said(main, home):
    main.flow("load('a')")
    history.install(None).close()
    with sqlite3.connect(home / "history.db") as connection:
        connection.execute("UPDATE result SET value = x'00'")
    connection.close()
    main.again()
    verdict, why = main.why("load-0")
    assert verdict == "ran"
    assert why.startswith("Its body ran again: its stored result can't be used: ObjectDamaged: ")


def test_a_missing_object_is_said(main, home, monkeypatch):
    main.flow("load('x' * 10_000)")
    for file in (home / "storage").rglob("*.*"):
        file.unlink()
    main.again()
    assert "its stored result can't be used: ObjectMissing: " in main.why("load-0")[1]


def test_verdicts_of_the_cache_are_told_as_they_are(main):
    main.flow("load('a')\nload('b')")
    store = history.current()
    runs = {run.name: run for run in store.stored().task_runs()}
    now_us = runs["load-1"].ended_us
    store.noted([("verdict", (runs["load-0"].key, now_us, "not cached", "the entry of 'k' had expired"))])
    hit = begin_cached(store, runs["load-1"])
    store.flush()
    assert main.of("load-0")["reasons"][:2] == [
        f"Its body ran: it is the first execution of this call, and {_name(main)} has not been run again.",
        "Not cached: the entry of 'k' had expired.",
    ]
    explained = main.call("task-run", "explain", hit, "--json").json
    assert (explained["verdict"], explained["reasons"][0]) == ("cached", "Cached: found under 'k'.")


def begin_cached(recorder, like):
    """Record a task run that the cache gave its value; returns its id."""
    from prefect_core.engine.ledger import flow_run_of
    from prefect_core.runs import TaskRun
    from prefect_core.states import Completed, Pending

    flow_run = flow_run_of(recorder.stored().flow_run(like.flow_run), None)
    run = TaskRun(Pending(), like.task_name, like.task_key, flow_run, 9, frozenset())
    recorder.created(run)
    run.state = Completed(name="Cached")
    recorder.entered(run, run.state)
    recorder.noted([("verdict", (run.key, run.state.timestamp_us, "cached", "found under 'k'"))])
    return str(run.id)


def test_the_words_are_those_of_the_json(main, call):
    main.flow("load('a')")
    [run] = call("task-run", "ls", "--json").json
    explained = call("task-run", "explain", run["id"], "--json").json
    assert call("task-run", "explain", "load-0").out == "\n".join(
        [f"load-0 ({run['id']}): ran", *explained["reasons"], ""]
    )
    assert json.dumps(explained)
