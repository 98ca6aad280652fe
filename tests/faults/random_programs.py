"""Small programs told in plain data, what an unbroken run of one gives, and a run of one that notes what it does.

A node is a call of a task or flow that calls its children: in order, each with the values of earlier ones as inputs. What it gives is its
number, plus its inputs, plus its children. Every body notes `began KEY`, and its caller `acked KEY` once it has the value; the key says
what call it is, and is the same for equal calls.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import anyio

from prefect_core import flow, history, reexecution, settings, task
from prefect_core.context import get_run_context
from prefect_core.crash_points import crash_point
from prefect_core.entrypoints import load_flow
from prefect_core.history import recorder

Node = dict[str, Any]
KINDS = ("stored", "plain", "flaky", "async", "subflow", "plain subflow")
NOT_STORED = ("plain", "plain subflow")
HERE = "tests.faults.random_programs"


def value_of(node: Node, inputs: list[Any]) -> Any:
    """Work out what a node gives."""
    values = values_of(node["children"])
    total = node["number"] + sum(map(plain, inputs)) + sum(map(plain, values))
    return [total] if node["in_list"] else total


def values_of(nodes: list[Node]) -> list[Any]:
    values: list[Any] = []
    for node in nodes:
        values.append(value_of(node, [values[one] for one in node["inputs"]]))
    return values


def plain(value: Any) -> int:
    number: int = value[0] if isinstance(value, list) else value
    return number


def key_of(around: str, node: Node, inputs: list[Any]) -> str:
    told = json.dumps([around, node, list(map(plain, inputs))], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:10]


def keys_of(node: Node, inputs: list[Any], around: str) -> Counter[tuple[str, str]]:
    """Count the calls of an unbroken run by kind and key."""
    key = key_of(around, node, inputs)
    return Counter({(node["kind"], key): 1}) + keys_among(node["children"], key)


def keys_among(nodes: list[Node], around: str) -> Counter[tuple[str, str]]:
    values, counts = values_of(nodes), Counter[tuple[str, str]]()
    for node in nodes:
        counts += keys_of(node, [values[one] for one in node["inputs"]], around)
    return counts


# What runs in the process that may be killed.

SIDE_LOG = "SIDE_LOG"
"""Names the file of the notes, in the environment: the entry point is a module of its own, beside the one that the tests import."""


def note(*words: object) -> None:
    file = os.open(os.environ[SIDE_LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, (" ".join(map(str, words)) + "\n").encode())
    os.close(file)


def run_children(nodes: list[Node], around: str) -> list[Any]:
    """Call the children of a node: those that are submitted run at once, beside what is called directly meanwhile."""
    given: list[Any] = []
    for node in nodes:
        inputs = [given[one] for one in node["inputs"]]
        behind = [given[one] for one in node["behind"] if not isinstance(given[one], int | list)] or None
        # A list of its own for each call, which the body empties.
        arguments = (node, inputs if node["way"] == "submit" else list(map(resolved, inputs)), around)
        callee = CALLEES[node["kind"]]
        if node["way"] == "map":
            given += callee.map([arguments[0]], [arguments[1]], around, wait_for=behind)
        elif node["way"] == "submit":
            options = {"key": node["key"]} if node["key"] and "subflow" not in node["kind"] else {}
            given.append(callee.submit(*arguments, wait_for=behind, **options))
        else:
            given.append(await_it(callee, arguments, behind))
    values = [resolved(one) for one in given]
    for node, value in zip(nodes, values, strict=True):
        note("acked", key_of(around, node, [values[one] for one in node["inputs"]]))
        if isinstance(value, list):
            value.append("changed by the caller")
    return values


def await_it(callee: Any, arguments: tuple[Any, ...], behind: Any) -> Any:
    if not callee.is_async:
        return callee(*arguments, wait_for=behind)
    return callee.submit(*arguments, wait_for=behind).result()


def resolved(given: Any) -> Any:
    return given if isinstance(given, int | list) else given.result()


def body(node: Node, inputs: list[Any], around: str) -> Any:
    key = key_of(around, node, inputs)
    note("began", key)
    crash_point("program.body")
    total = node["number"] + sum(map(plain, inputs))
    if node["kind"] != "flaky":
        # One that is tried again is given what it left.
        inputs.clear()
    total += sum(map(plain, run_children(node["children"], key)))
    if node["kind"] == "flaky" and get_run_context().run.run_count % 2:
        raise ValueError("once more")
    crash_point("program.body")
    return [total] if node["in_list"] else total


@task(persist_result=True)
def stored(node: Node, inputs: list[Any], around: str) -> Any:
    return body(node, inputs, around)


@task
def unstored(node: Node, inputs: list[Any], around: str) -> Any:
    return body(node, inputs, around)


@task(persist_result=True, retries=1)
def flaky(node: Node, inputs: list[Any], around: str) -> Any:
    return body(node, inputs, around)


@task(persist_result=True)
async def asynchronous(node: Node, inputs: list[Any], around: str) -> Any:
    await anyio.sleep(0)
    return body(node, inputs, around)


@flow(persist_result=True, validate_parameters=False)
def subflow(node: Node, inputs: list[Any], around: str) -> Any:
    return body(node, inputs, around)


@flow(validate_parameters=False)
def unstored_subflow(node: Node, inputs: list[Any], around: str) -> Any:
    return body(node, inputs, around)


CALLEES: dict[str, Any] = {
    "stored": stored,
    "plain": unstored,
    "flaky": flaky,
    "async": asynchronous,
    "subflow": subflow,
    "plain subflow": unstored_subflow,
}


@flow
def main(nodes: list[Node], retries: int) -> list[int]:
    note("epoch")
    values = [plain(value) for value in run_children(nodes, "root")]
    if get_run_context().run.attempt <= retries:
        raise ValueError("once more")
    note("result", json.dumps(values))
    return values


def execute(nodes: list[Node], retries: int) -> None:
    """Run the program, or go on with the run of it that is in the history."""
    if (settings.current().home / "history.db").exists() and (runs := roots()):
        if is_complete(runs[0]):
            return
        again = reexecution.find(runs[0])
        with reexecution.reopened(again):
            again.flow.with_options(retries=retries)(*again.args, **again.kwargs)
    else:
        load_flow(f"{Path(__file__).absolute()}:main").with_options(retries=retries)(nodes, retries)


def execute_by_command(nodes: list[Node]) -> None:
    """Do the same as a user would, who has the command line."""
    runs = roots() if (settings.current().home / "history.db").exists() else []
    if not runs:
        execute(nodes, 0)
        return
    if is_complete(runs[0]):
        return
    from prefect_core.cli.main import main as command_line

    sys.argv[1:] = ["flow-run", "retry", runs[0]]
    try:
        command_line()
    except SystemExit as end:
        assert not end.code


def execute_event_by_event(nodes: list[Node]) -> None:
    """Do that with a recorder that makes a transaction of each event."""
    recorder.MOST = 1
    execute_by_command(nodes)


def is_complete(run: str) -> bool:
    """Tell whether the kill came after the last commit of the run, so that nothing is left to be run again."""
    return history.current().stored().flow_run(run).state_type == "COMPLETED"


def roots() -> list[str]:
    return [str(row.id) for row in history.current().stored().flow_runs() if row.parent_flow_run is None]


def epochs_of(side_log: Path) -> list[list[list[str]]]:
    """Return what was noted, in words, epoch by epoch: attempt by attempt of the root flow, in whichever process."""
    epochs: list[list[list[str]]] = []
    for line in side_log.read_text().splitlines() if side_log.exists() else []:
        words = line.split(" ", 1)
        if words[0] == "epoch":
            epochs.append([])
        else:
            epochs[-1].append(words)
    return epochs
