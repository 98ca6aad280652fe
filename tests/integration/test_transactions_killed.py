"""A process is killed in the midst of a transaction: after a retry all of it has happened, or all of it happens again."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefect_core.crash_points import VARIABLE
from tests.integration.retrying import Flows

CODE = """
from pathlib import Path
from prefect_core import flow, task
from prefect_core.cache_policies import INPUTS
from prefect_core.transactions import transaction

def note(word):
    with open("bodies", "ab", buffering=0) as file:
        file.write(f"{word}\\n".encode())

@task(persist_result=True)
def before():
    note("before")

@task(persist_result=True, result_storage=Path("results"))
def extract():
    note("extract")
    return b"x" * 50_000

@task(cache_policy=INPUTS)
def load(rows):
    note("load")
    return len(rows)

@load.on_rollback
def unload(txn):
    note("unload")

@task(persist_result=True)
def after():
    note("after")

@flow
def main():
    before()
    with transaction():
        rows = extract.submit()
        count = load(rows)
    note("left")
    after()
    if not Path("go").exists():
        raise ValueError("not yet")
    return count
"""
INSIDE = ["transaction.before_rows:1", "storage.after_rename:1", "storage.after_folder:1"]


@pytest.fixture
def flows(tmp_path: Path, home: Path) -> Flows:
    made = Flows(tmp_path, home)
    made.write(CODE)
    return made


def objects(flows: Flows) -> int:
    return len([path for path in (flows.folder / "results").rglob("*") if path.is_file()])


@pytest.mark.parametrize("point", INSIDE)
def test_a_kill_before_the_commit_makes_all_of_it_happen_again(flows: Flows, point: str) -> None:
    run = flows.run("main", **{VARIABLE: point})
    assert flows.bodies() == ["before", "extract", "load"]
    flows.touch("go")
    assert flows.json("flow-run", "retry", run)["result"] == 50_000
    assert flows.bodies() == ["extract", "load", "left", "after"]


def test_a_kill_after_the_commit_finds_all_of_it_there(flows: Flows) -> None:
    run = flows.run("main", **{VARIABLE: "transaction.after_rows:1"})
    assert flows.bodies() == ["before", "extract", "load"]
    assert objects(flows) == 1
    flows.touch("go")
    assert flows.json("flow-run", "retry", run)["result"] == 50_000
    assert flows.bodies() == ["left", "after"]


def test_a_run_that_fails_after_its_transaction_takes_it_over(flows: Flows) -> None:
    run = flows.run("main")
    assert flows.bodies() == ["before", "extract", "load", "left", "after"]
    flows.touch("go")
    assert flows.json("flow-run", "retry", run)["result"] == 50_000
    assert flows.bodies() == ["left"]
    # And another run finds what is cached, but not what is only stored.
    flows.run("main")
    assert flows.bodies() == ["before", "extract", "left", "after"]


def test_what_was_rolled_back_runs_again(flows: Flows) -> None:
    flows.write(CODE.replace("count = load(rows)", "count = load(rows); assert Path('go').exists(), 'not yet'"))
    run = flows.run("main")
    assert flows.bodies() == ["before", "extract", "load", "unload"]
    assert objects(flows) == 0 if (flows.folder / "results").exists() else True
    flows.touch("go")
    assert flows.json("flow-run", "retry", run)["result"] == 50_000
    assert flows.bodies() == ["extract", "load", "left", "after"]
    explained = flows.explain(run, "load-0")
    assert any("rolled back" in str(line) for line in explained.values())
