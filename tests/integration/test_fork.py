"""Processes that a program makes after the engine has started, with each start method: they run flows of their own, the parent goes on."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.context import BaseContext
from pathlib import Path

import anyio
import pytest

from prefect_core import flow, settings, task
from tests.integration.programs import ends, running, store_of

METHODS = pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])


@task
def add_one(number: int) -> int:
    return number + 1


@task
async def add_one_async(number: int) -> int:
    await anyio.sleep(0)
    return number + 1


@task(retries=1, retry_delay_seconds=0.01)
def flaky(seen: list[int]) -> int:
    seen.append(1)
    if len(seen) == 1:
        raise ValueError("once more")
    return 1


@flow
def work(name: str) -> int:
    """Use all that the engine has: threads, the loop in a thread, timers, the history."""
    submitted = [add_one.submit(number) for number in range(5)]
    return sum(future.result() for future in submitted) + add_one_async.submit(1).result() + flaky.submit([]).result()


RESULT = 18


def work_in_child(name: str, home: str) -> None:
    # The fork server keeps the environment in which it was started, by an earlier test perhaps.
    os.environ["PREFECT_CORE_HOME"] = home
    settings.forget()
    assert work(name) == RESULT


def run_children(context: BaseContext, count: int = 2) -> None:
    home = os.environ["PREFECT_CORE_HOME"]
    children = [context.Process(target=work_in_child, args=(f"child {number}", home)) for number in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0] * count


@METHODS
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_children_and_their_parent_run_flows_side_by_side(home: Path, method: str) -> None:
    context = multiprocessing.get_context(method)
    assert work("before") == RESULT
    # An open submission outside of flows, and one of the loop, are under way while the children are made.
    gate = threading.Event()
    held = task(lambda: gate.wait(30)).submit()
    run_children(context)
    gate.set()
    assert held.result() is True
    assert work("after") == RESULT
    with store_of(home) as store:
        flow_runs = store.flow_runs()
        assert sorted(row.parameters["name"] for row in flow_runs) == ["after", "before", "child 0", "child 1"]
        assert {row.state_name for row in [*flow_runs, *store.task_runs()]} == {"Completed"}
        assert len({row.process for row in flow_runs}) == 3


@METHODS
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_body_makes_processes_that_run_flows(home: Path, method: str) -> None:
    context = multiprocessing.get_context(method)

    @task
    def make_children() -> int:
        run_children(context, 1)
        return 1

    @flow
    def main() -> int:
        return make_children.submit().result() + make_children()

    assert main() == 2
    with store_of(home) as store:
        assert {row.state_name for row in [*store.flow_runs(), *store.task_runs()]} == {"Completed"}
        assert sorted(row.flow_name for row in store.flow_runs()) == ["main", "work", "work"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_that_leaves_its_body_ends_there_and_the_parent_has_the_one_end(home: Path) -> None:
    code = """
    @task
    def split():
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            return "parent"
        say("child")
        return "child"

    @flow
    def main():
        return split.submit().result()

    say(main())
    """
    with running(home, code) as program:
        assert program.end()[0] == 0
    assert sorted(program.lines) == ["child", "parent"]
    flows, tasks = ends(home)
    assert flows == {("main", "Completed", None): 1}
    assert tasks == {("split", "Completed", None): 1}


def test_a_fork_while_many_tasks_run_leaves_the_child_no_lock_behind(home: Path) -> None:
    code = """
    import multiprocessing

    @task
    def one(number):
        return number

    @flow
    def small():
        return sum(one.map(range(20)).result())

    def child():
        assert small() == 190
        os._exit(7)

    @flow
    def busy():
        futures = [one.submit(number) for number in range(3000)]
        children = []
        for _ in range(10):
            pid = os.fork()
            if not pid:
                child()
            children.append(pid)
        return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children], len([f.result() for f in futures])

    codes, count = busy()
    say(f"{set(codes)} {count}")
    """
    with running(home, code) as program:
        assert program.end(50)[0] == 0, program.errors
    assert program.lines == ["{7} 3000"]
    with store_of(home) as store:
        flow_runs = store.flow_runs()
        assert {(row.flow_name, row.state_name) for row in flow_runs} == {("busy", "Completed"), ("small", "Completed")}
        assert len(flow_runs) == 11
