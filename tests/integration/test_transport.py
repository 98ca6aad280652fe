"""What travels to a worker process and back, and what is said of that which can't."""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
import threading
import traceback
from typing import Any

import pytest

from prefect_core import flow, history, tags, task
from prefect_core.errors import RemoteError, SerializationError
from prefect_core.states import State
from tests.integration import bodies

# What a body sees, and what comes back of it.


def test_a_body_knows_its_run_its_flow_and_the_tags_around() -> None:
    @flow(task_runner="processes:1", name="outer")
    def run(x: int) -> Any:
        with tags("around"):
            return bodies.surroundings.submit().result()

    assert run(5) == {"task_run": "surroundings-0", "flow": "outer", "tags": ["around"], "parameters": {"x": 5}}
    row = next(row for row in history.open_store().task_runs() if row.task_name == "double")
    assert row.tags == ("around", "inner")


def test_prints_and_log_records_are_kept_once_in_order_and_shown_by_the_main_process(
    capfd: pytest.CaptureFixture[str],
) -> None:
    @flow(task_runner="processes:1")
    def run() -> None:
        bodies.speak.submit()

    run()
    store = history.open_store()
    row = store.task_run("speak-0")
    assert [(log.level, log.message) for log in store.logs(row.key)] == [
        (20, "printed"),
        (30, "warned"),
        (20, "printed again"),
    ]
    shown = capfd.readouterr().err
    assert shown.count("Task run 'speak-0' - printed\n") == shown.count("Task run 'speak-0' - warned\n") == 1


def test_thousands_of_records_of_one_body_travel_while_it_runs_and_none_is_lost() -> None:
    @flow(task_runner="processes:1")
    def run() -> None:
        bodies.speak_much.submit(10_000)

    run()
    store = history.open_store()
    assert [log.message for log in store.logs(store.task_run("speak_much-0").key)] == [
        f"line {index}" for index in range(10_000)
    ]


def test_an_exception_comes_back_as_itself_with_its_cause_and_the_traceback_that_it_had() -> None:
    @flow(task_runner="processes:1")
    def run() -> State:
        return bodies.raise_from_cause.submit(return_state=True)

    error = run(return_state=True).data.data
    assert type(error) is ValueError
    assert type(error.__cause__) is KeyError
    text = "".join(traceback.format_exception(error))
    assert "in raise_from_cause" in text
    assert "prefect_core" not in text.partition("Raised in worker")[2]


def test_an_exception_that_cannot_be_pickled_keeps_its_name_text_and_traceback() -> None:
    @flow(task_runner="processes:1")
    def run() -> State:
        return bodies.raise_particular.submit(return_state=True)

    state = run(return_state=True).data
    assert state.message == "Task run encountered an exception ParticularError: 7: closed"
    assert isinstance(state.data, RemoteError)
    assert (type(state.data).__name__, str(state.data)) == ("ParticularError", "7: closed")
    assert 'raise ParticularError(7, "closed")' in state.data.traceback_text


# What can't travel.


def some_generator() -> Any:
    yield 1


async def some_coroutine() -> None: ...


TROUBLE: dict[str, Any] = {
    "lock": threading.Lock,
    "file for writing": lambda: os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"),
    "file for reading": lambda: os.fdopen(os.open(os.devnull, os.O_RDONLY), encoding="utf-8"),
    "binary file": lambda: os.fdopen(os.open(os.devnull, os.O_RDONLY), "rb"),
    "generator": some_generator,
    "socket": socket.socket,
    "thread": threading.Thread,
    "connection": lambda: sqlite3.connect(":memory:"),
    "coroutine": some_coroutine,
    "memoryview": lambda: memoryview(b"x"),
    "frame": sys._getframe,
    "bad __reduce__": bodies.RefusesToLeave,
    "bad when loaded": bodies.RefusesToArrive,
}


@pytest.mark.parametrize("kind", TROUBLE)
def test_an_argument_that_cannot_travel_is_an_error_that_names_task_argument_and_place(kind: str) -> None:
    troublesome = TROUBLE[kind]()

    @task
    def take(fine: int, settings: Any) -> None: ...

    @flow(task_runner="processes:1")
    def run() -> State:
        return take.submit(1, {"deep": [0, troublesome]}, return_state=True)

    state = run(return_state=True).data
    if hasattr(troublesome, "close"):
        troublesome.close()
    assert state.is_failed()
    assert isinstance(state.data, SerializationError)
    assert "task 'take'" in state.message
    assert "'settings'" in state.message
    if kind != "bad when loaded":
        assert "settings['deep'][1] is a" in state.message


def test_functions_modules_and_classes_travel() -> None:
    factor = 3

    class Local:
        value = 4

    @task
    def use(function: Any, module: Any, kind: Any) -> Any:
        return function(2), module.sep, kind.value

    @flow(task_runner="processes:1")
    def run() -> Any:
        return use.submit(lambda number: number * factor, os, Local).result()

    assert run() == (6, os.sep, 4)


@pytest.mark.parametrize(
    ("what", "named"), [("lock", "_thread.lock"), ("generator_in_list", "its result[1]"), ("arrives", "not here")]
)
def test_a_result_that_cannot_travel_fails_the_attempt_and_names_the_task(what: str, named: str) -> None:
    @flow(task_runner="processes:1")
    def run() -> State:
        return bodies.give.submit(what, return_state=True)

    state = run(return_state=True).data
    assert state.is_failed()
    assert isinstance(state.data, SerializationError)
    assert "task 'give'" in state.message
    assert named in state.message


def test_a_function_that_refers_to_what_cannot_travel_is_named_with_the_variable() -> None:
    lock = threading.Lock()

    @task
    def use() -> None:
        lock.acquire()

    @flow(task_runner="processes:1")
    def run() -> State:
        return use.submit(return_state=True)

    message = run(return_state=True).data.message
    assert "Task 'use'" in message
    assert "variable 'lock' is a _thread.lock" in message


def test_a_thousand_submits_of_one_closure_pickle_it_once() -> None:
    captured = bodies.Counted()
    bodies.Counted.pickled = 0

    @task
    def use(index: int) -> int:
        return index if captured is not None else -1

    @flow(task_runner="processes:2")
    def run() -> list[int]:
        return use.map(range(1000)).result()

    assert run() == list(range(1000))
    assert bodies.Counted.pickled == 1


def test_a_variable_that_stands_for_another_object_is_pickled_again() -> None:
    factor = 1

    @task
    def use() -> int:
        return factor

    @flow(task_runner="processes:1")
    def run() -> list[int]:
        nonlocal factor
        found = [use.submit().result()]
        factor = 1000
        return [*found, use.submit().result()]

    assert run() == [1, 1000]
