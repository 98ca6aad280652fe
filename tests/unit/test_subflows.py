"""Subflows: what stands for them in their parent, their runners, their inputs, and running beside each other."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest
import trio

from prefect_core import allow_failure, flow, task
from prefect_core.context import FlowRunContext, get_run_context
from prefect_core.errors import UnfinishedRun
from prefect_core.states import Cancelled, Completed
from prefect_core.task_runners import ConcurrentTaskRunner

pytestmark = pytest.mark.usefixtures("recorded")


@task
def add(x, y=1):
    return x + y


@task
def bad():
    raise ValueError("below")


@flow
def child(x=1):
    return add(x)


@flow
async def achild(x=1):
    await anyio.lowlevel.checkpoint()
    return add(x)


@pytest.fixture(params=["asyncio", "trio"])
def run_async(request):
    return (lambda function: asyncio.run(function())) if request.param == "asyncio" else trio.run


class Watched(ConcurrentTaskRunner):
    """A runner that notes when it is started and stopped."""

    log: list[tuple[str, str]] = []

    def duplicate(self):
        return type(self)(self.max_workers)

    def start(self, host):
        self.log.append(("start", get_run_context().run.flow_name if FlowRunContext.get() else "root"))
        super().start(host)

    def stop(self):
        self.log.append(("stop", ""))
        super().stop()


@pytest.fixture
def runner_log():
    Watched.log = []
    yield Watched.log
    Watched.log = []


# What is recorded.


@pytest.mark.parametrize("way", ["called", "submitted"])
def test_a_task_run_stands_for_a_subflow_in_its_parent(recorded, way: str) -> None:
    @flow
    def around():
        return child(1) if way == "called" else child.submit(1).result()

    assert around() == 2
    outer, inner = recorded.flow_runs()
    tracking = recorded.task_runs("child")[0]
    assert (tracking.name, tracking.flow_run, tracking.child_flow_run) == ("child-0", outer.key, inner.key)
    assert (inner.parent_task_run, inner.parent_flow_run) == (tracking.key, outer.key)
    assert outer.parent_task_run is None
    assert recorded.states_of(tracking) == recorded.states_of(inner) == ["Pending", "Running", "Completed"]


def test_state_details_name_the_child_and_the_parent() -> None:
    seen = {}

    @flow
    def inner():
        run = get_run_context().flow_run
        seen["running"] = (run.state.state_details, run.parent_task_run.state.state_details, run)

    @flow
    def around():
        seen["end"] = inner(return_state=True).state_details

    around()
    own, tracking, run = seen["running"]
    for details in (own, seen["end"]):
        assert details.parent_task_run_id == run.parent_task_run.id == run.parent_task_run_id
        assert details.flow_run_id == run.id
    for details in (tracking, run.parent_task_run.state.state_details):
        assert details.child_flow_run_id == run.id
        assert details.task_run_id == run.parent_task_run.id
        assert details.flow_run_id == run.parent_flow_run_id
    assert own.child_flow_run_id is None


def test_the_details_of_a_flow_that_is_nobodys_child_name_no_parent() -> None:
    details = child(return_state=True).state_details
    assert (details.parent_task_run_id, details.child_flow_run_id) == (None, None)


@pytest.mark.parametrize("end", ["fails", "is cancelled", "crashes", "is skipped", "retries"])
def test_what_stands_for_a_subflow_goes_through_its_states(recorded, end: str) -> None:
    tries = []

    @flow(name="inner", retries=1 if end == "retries" else 0)
    def inner():
        tries.append(1)
        match end:
            case "fails":
                raise ValueError
            case "is cancelled":
                return Cancelled()
            case "crashes":
                raise SystemExit
            case "is skipped":
                return Completed(name="Skipped")
            case "retries":
                if len(tries) == 1:
                    raise ValueError

    @flow
    def around():
        inner(return_state=True)
        return "fine"

    assert around() == "fine"
    states = recorded.states_of(recorded.flow_runs("inner")[0])
    assert states[-1] == {
        "fails": "Failed",
        "is cancelled": "Cancelled",
        "crashes": "Crashed",
        "is skipped": "Skipped",
    }.get(end, "Completed")
    assert recorded.task_states("inner") == [states]


def test_subflows_are_counted_by_name_and_nest(recorded) -> None:
    @flow
    def middle():
        child()
        child()

    @flow
    def around():
        middle()
        child()

    around()
    assert sorted(row.name for row in recorded.task_runs("child")) == ["child-0", "child-0", "child-1"]
    inner = recorded.flow_runs("child")[0]
    assert inner.parent_flow_run == recorded.flow_runs("middle")[0].key


def test_a_flow_in_a_task_is_tracked_inside_that_task(recorded) -> None:
    @task
    def outer():
        return child(4)

    assert flow(lambda: outer.submit().result())() == 5
    assert outer() == 5
    assert [row.state_type for row in recorded.task_runs("child")] == ["COMPLETED", "COMPLETED"]


# Inputs.


@pytest.mark.parametrize("way", ["called", "submitted"])
def test_futures_among_the_arguments_of_a_subflow_become_data(recorded, way: str) -> None:
    @flow
    def inner(x: int, rest: dict):
        return x, rest

    @flow
    def around():
        futures = add.map([1, 2, 3])
        arguments = {"x": futures[0], "rest": {"a": [futures[1]], "b": futures[2]}}
        return inner(**arguments) if way == "called" else inner.submit(**arguments).result()

    assert around() == (2, {"a": [3], "b": 4})
    edges = recorded.task_runs("inner")[0].inputs
    assert sorted(edge.parameter for edge in edges) == ["rest", "rest", "x"]


def test_a_state_among_the_arguments_becomes_data_and_values_are_coerced() -> None:
    @flow
    def inner(x: int):
        return x

    assert flow(lambda: inner(add("4", "2", return_state=True)))() == 42


@pytest.mark.parametrize("way", ["called", "submitted"])
def test_a_failed_input_leaves_a_subflow_not_ready(recorded, way: str) -> None:
    @flow
    def inner(x=None):
        raise AssertionError("the body must not run")

    @flow
    def around():
        upstream = bad.submit()
        for options in ({"x": upstream}, {"wait_for": [upstream]}):
            state = inner(**options, return_state=True)
            assert state.message == f"Upstream task run '{upstream.task_run_id}' did not reach a 'COMPLETED' state."
            assert state.name == "NotReady"
        if way == "called":
            return inner(upstream)
        return inner.submit(upstream).result()

    with pytest.raises(UnfinishedRun):
        around()
    assert recorded.task_states("inner") == [["Pending", "NotReady"]] * 3
    assert [recorded.states_of(row) for row in recorded.flow_runs("inner")] == [["Pending", "NotReady"]] * 3


def test_an_allowed_failure_reaches_a_subflow_as_its_exception() -> None:
    @flow
    def inner(x):
        return type(x).__name__

    assert flow(lambda: inner(allow_failure(bad.submit())))() == "ValueError"


def test_a_subflow_waits_for_what_it_is_told_to_wait_for() -> None:
    order, go = [], threading.Event()

    @task
    def first():
        go.wait(30)
        order.append("first")

    @flow
    def inner():
        order.append("inner")

    @flow
    def around():
        upstream = first.submit()
        submitted = inner.submit(wait_for=[upstream])
        go.set()
        inner(wait_for=[upstream])
        submitted.wait()

    around()
    assert order == ["first", "inner", "inner"]


def test_only_a_subflow_can_wait_for_something() -> None:
    with pytest.raises(ValueError, match="Only flows run as subflows can wait for dependencies."):
        child(wait_for=[])
    assert child.submit(wait_for=[add.submit(1)]).result() == 2
    assert child.submit(wait_for=[bad.submit()]).wait().name == "NotReady"


def test_a_flow_called_outside_of_flows_waits_for_futures_it_is_given() -> None:
    assert child(add.submit(1)) == 3
    assert child.submit(add.submit(1)).result() == 3


# Runners.


ENDS = {
    "returns": lambda: 1,
    "raises": lambda: 1 / 0,
    "crashes": lambda: (_ for _ in ()).throw(SystemExit()),
    "is cancelled": lambda: Cancelled(),
    "times out": lambda: threading.Event().wait(30),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", ["called", "submitted"])
def test_a_subflow_starts_a_runner_of_its_own_and_stops_it_however_it_ends(runner_log, way: str, end: str) -> None:
    options = {"timeout_seconds": 0.01} if end == "times out" else {}
    inner = flow(ENDS[end], task_runner=Watched(), name="inner", **options)

    @flow(task_runner=Watched)
    def around():
        before = list(runner_log)
        _ = inner(return_state=True) if way == "called" else inner.submit().wait()
        return before, list(runner_log)

    before, after = around()
    assert [what for what, _ in before] == ["start"]
    assert [what for what, _ in after] == ["start", "start", "stop"]
    assert [what for what, _ in runner_log] == ["start", "start", "stop", "stop"]


def test_each_attempt_of_a_flow_has_a_runner_of_its_own(runner_log) -> None:
    flow(lambda: 1 / 0, retries=2, task_runner=Watched)(return_state=True)
    assert [what for what, _ in runner_log] == ["start", "stop"] * 3


def test_a_runner_that_can_not_start_fails_the_flow_and_one_that_can_not_stop_is_logged(caplog) -> None:
    class Broken(ConcurrentTaskRunner):
        def duplicate(self):
            return type(self)()

    class BrokenStart(Broken):
        def start(self, host):
            raise OSError("no room")

    class BrokenStop(Broken):
        def stop(self):
            super().stop()
            raise OSError("stuck")

    with pytest.raises(OSError, match="no room"):
        flow(lambda: 1, task_runner=BrokenStart)()
    assert flow(lambda: 1, task_runner=BrokenStop)() == 1
    assert "Task runner 'BrokenStop' could not be stopped cleanly" in caplog.text


def test_the_tasks_of_a_subflow_run_on_its_own_runner(recorded) -> None:
    @task
    def thread():
        return threading.current_thread()

    @flow(task_runner="sequential")
    def inner():
        return thread.submit().result()

    @flow
    def around():
        return inner() is threading.current_thread(), thread.submit().result() is threading.current_thread()

    assert around() == (True, False)
    assert {row.flow_name: row.runner for row in recorded.flow_runs()} == {
        "around": "ConcurrentTaskRunner",
        "inner": "SequentialTaskRunner",
    }


# Beside each other.


def test_async_subflows_run_side_by_side_under_gather() -> None:
    meeting = asyncio.Barrier

    @flow
    async def inner(barrier, x):
        await barrier.wait()
        return await aadd.submit(x)

    @task
    async def aadd(x):
        return x + 1

    @flow
    async def around():
        barrier = meeting(5)
        return await asyncio.gather(*[inner(barrier, x) for x in range(5)])

    assert asyncio.run(around()) == [1, 2, 3, 4, 5]


def test_async_subflows_run_side_by_side_in_a_task_group(run_async, recorded) -> None:
    results = {}

    @flow
    async def inner(x, events):
        events[x].set()
        for event in events:
            await event.wait()
        results[x] = await achild(x)

    @flow
    async def around():
        events = [anyio.Event() for _ in range(4)]
        async with anyio.create_task_group() as group:
            for x in range(4):
                group.start_soon(inner, x, events)

    run_async(around)
    assert results == {0: 1, 1: 2, 2: 3, 3: 4}
    assert recorded.unfinished() == []


def test_a_failing_subflow_among_several_fails_only_itself() -> None:
    @flow
    async def inner(x):
        if x == 1:
            raise ValueError("one")
        return x

    @flow
    async def around():
        found = await asyncio.gather(*[inner(x) for x in range(3)], return_exceptions=True)
        return [repr(value) for value in found]

    assert asyncio.run(around()) == ["0", "ValueError('one')", "2"]


def test_submitted_flows_run_beside_their_parent_and_each_other() -> None:
    barrier = threading.Barrier(4)

    @flow
    def inner(x):
        barrier.wait(30)
        return x

    @flow
    def around():
        futures = inner.map([1, 2, 3])
        barrier.wait(30)
        return futures.result()

    assert around() == [1, 2, 3]


def test_submitted_async_flows_run_on_the_loop_of_an_async_parent(run_async) -> None:
    @flow
    async def inner(event, x):
        await event.wait()
        return x, threading.current_thread() is threading.main_thread()

    @flow
    async def around():
        event = anyio.Event()
        futures = inner.map([event] * 3, [1, 2, 3])
        event.set()
        return await futures

    assert run_async(around) == [(1, True), (2, True), (3, True)]


def test_an_async_flow_may_be_submitted_from_a_plain_one() -> None:
    assert flow(lambda: achild.submit(1).result())() == 2
    assert achild.submit(1).result() == 2


def test_a_submitted_flow_gives_a_future_with_both_runs(recorded) -> None:
    @flow
    def around():
        future = child.submit(1)
        future.wait()
        assert future.flow_run_id == future.flow_run.id
        assert future.task_run.child_flow_run is future.flow_run
        assert future.name == future.flow_run.name
        return future.task_run_id, future.flow_run_id, future.state.name

    ids = around()
    assert ids == (recorded.task_runs("child")[0].id, recorded.flow_runs("child")[0].id, "Completed")


def test_a_flow_submitted_outside_of_flows_has_no_task_run_beside_it(recorded) -> None:
    future = child.submit(1)
    assert future.result() == 2
    assert future.task_run is None
    assert repr(future).startswith("PrefectFlowRunFuture(")
    assert "Completed" in future._repr_html_()
    failing = flow(lambda: 1 / 0).submit()
    with pytest.raises(ZeroDivisionError):
        failing.result()


def test_a_submitted_flow_that_nobody_waits_for_is_waited_for() -> None:
    go, done = threading.Event(), []

    @flow
    def inner():
        go.wait(30)
        done.append(1)

    @flow
    def around():
        inner.submit()
        threading.Timer(0.01, go.set).start()

    assert str(around(return_state=True)) == "Completed('All states completed.')"
    assert done == [1]


def test_submitted_flows_are_upstreams_and_downstreams_of_tasks() -> None:
    assert flow(lambda: add.submit(child.submit(add.submit(1))).result())() == 4


def test_a_plain_flow_in_a_running_loop_works(run_async) -> None:
    async def main():
        return child(1), await achild(2), flow(lambda: add.submit(3).result())()

    assert run_async(main) == (2, 3, 4)


def test_an_async_subflow_called_in_a_plain_flow_is_driven_by_the_caller(recorded) -> None:
    assert flow(lambda: asyncio.run(_await(achild(1))), name="around")() == 2
    assert recorded.flow_runs("achild")[0].parent_flow_run == recorded.flow_runs("around")[0].key


async def _await(awaitable):
    return await awaitable


def test_many_submitted_flows_end_with_few_threads(recorded) -> None:
    @flow
    def inner(x):
        return add.submit(x).result()

    @flow
    def around():
        return sum(inner.map(range(60)).result())

    assert around() == sum(range(1, 61))
    assert recorded.unfinished() == []


def test_submitted_flows_nest_deeply_without_a_deadlock() -> None:
    @flow
    def inner(depth):
        return 0 if depth == 0 else inner.submit(depth - 1).result() + 1

    assert inner(30) == 30


def test_a_flow_that_is_given_its_own_future_is_told_so() -> None:
    box, filled = [], threading.Event()

    @flow
    def inner():
        filled.wait(30)
        return add.submit(box[0])

    @flow
    def around():
        box.append(inner.submit())
        filled.set()
        return box[0].result()

    with pytest.raises(ValueError, match="Discovered a task depending on itself. Raising to avoid a deadlock."):
        around()
