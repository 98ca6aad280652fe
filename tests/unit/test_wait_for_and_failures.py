"""What a failed, cancelled or crashed run does to those that wait for it, and what the end of a flow does to its children."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from prefect_core import allow_failure, flow, quote, task
from prefect_core.errors import UnfinishedRun
from prefect_core.settings import temporary_settings
from prefect_core.states import Cancelled, Completed, Crashed, Failed

pytestmark = pytest.mark.usefixtures("recorded")


@task
def good(x=1):
    return x


@task
def bad():
    raise ValueError("x")


@task
def ends(state):
    return state.unquote() if isinstance(state, quote) else state


UPSTREAMS = {
    "failed": lambda: bad.submit(),
    "cancelled": lambda: task(lambda: Cancelled()).submit(),
    "crashed": lambda: task(lambda: Crashed()).submit(),
    "a failed state": lambda: bad(return_state=True),
    "a state made by hand": lambda: Failed(),
    "inside a collection": lambda: {"k": [bad.submit(), 1]},
}


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("how", ["passed", "waited for"])
@pytest.mark.parametrize("way", ["called", "submitted"])
def test_an_upstream_that_did_not_complete_leaves_its_child_not_ready(
    recorded, upstream: str, how: str, way: str
) -> None:
    hooked = []

    @task(on_running=[hooked.append], on_failure=[hooked.append], on_completion=[hooked.append])
    def child(x=None):
        raise AssertionError("the body must not run")

    @flow
    def around():
        source = UPSTREAMS[upstream]()
        options = {"x": source} if how == "passed" else {"wait_for": [source]}
        state = child(**options, return_state=True) if way == "called" else child.submit(**options).wait()
        return quote(state)

    state = around().unquote()
    assert (state.type.value, state.name) == ("PENDING", "NotReady")
    assert state.message.startswith("Upstream task run '")
    assert state.message.endswith("' did not reach a 'COMPLETED' state.")
    assert recorded.task_states("child") == [["Pending", "NotReady"]]
    assert hooked == []
    with pytest.raises(UnfinishedRun):
        state.result()


def test_the_cascade_names_the_nearest_upstream() -> None:
    @flow
    def around():
        futures = [bad.submit()]
        for _ in range(4):
            futures.append(good.submit(futures[-1]))
        return quote([(future.task_run_id, future.wait()) for future in futures])

    chain = around().unquote()
    assert chain[0][1].name == "Failed"
    for (above, _), (_, state) in zip(chain, chain[1:], strict=False):
        assert (state.name, f"'{above}'" in state.message) == ("NotReady", True)


def test_a_long_cascade_of_failures_ends_without_recursion() -> None:
    go = threading.Event()

    @task
    def held():
        go.wait(30)
        raise ValueError

    @flow(final_state_from="return_value")
    def around():
        future = held.submit()
        for _ in range(3000):
            future = good.submit(future)
        go.set()
        return quote(future.wait())

    assert around().unquote().name == "NotReady"


def test_wait_for_takes_futures_states_values_and_nested_collections() -> None:
    @flow
    def around():
        everything = [good.submit(), Completed(), 5, None, "text", {"k": [good.submit(), (good(return_state=True),)]}]
        return (
            good.submit(7, wait_for=everything).result(),
            good(8, wait_for=everything),
            good(9, wait_for=good.submit()),
        )

    assert around() == (7, 8, 9)


def test_no_value_of_wait_for_is_passed_and_all_are_waited_for() -> None:
    order, go = [], threading.Event()

    @task
    def first(n):
        go.wait(30)
        order.append(n)

    @task
    def last():
        order.append("last")

    @flow
    def around():
        futures = first.map([1, 2, 3])
        future = last.submit(wait_for=futures)
        go.set()
        future.wait()

    around()
    assert sorted(order[:3]) == [1, 2, 3]
    assert order[3] == "last"


def test_an_async_call_waits_too() -> None:
    @task
    async def agood(x):
        return x

    @flow
    async def around():
        states = [
            await agood(1, wait_for=[bad.submit()], return_state=True),
            await agood(bad.submit(), return_state=True),
        ]
        return quote([state.name for state in states]), await agood(agood.submit(5))

    names, value = asyncio.run(around())
    assert names.unquote() == ["NotReady", "NotReady"]
    assert value == 5


@pytest.mark.parametrize("how", ["passed", "waited for"])
def test_an_allowed_failure_lets_the_child_run(how: str) -> None:
    @task
    def child(x="nothing"):
        return x

    @flow
    def around():
        source = allow_failure(bad.submit())
        return child(source) if how == "passed" else child(wait_for=[source])

    value = around()
    assert (isinstance(value, ValueError), value == "nothing") == ((True, False) if how == "passed" else (False, True))


def test_an_allowed_failure_covers_runs_that_were_not_ready() -> None:
    assert flow(lambda: [good.submit(allow_failure(good.submit(bad.submit()))).result()])() == [None]


@pytest.mark.parametrize("make", [Cancelled, Crashed], ids=lambda make: make.__name__)
def test_cancelled_and_crashed_upstreams_are_never_allowed(make) -> None:
    @flow
    def around():
        return quote(good.submit(allow_failure(task(lambda: make()).submit())).wait())

    assert around().unquote().name == "NotReady"


def test_an_allowed_failure_in_one_place_allows_none_in_another() -> None:
    @flow
    def around():
        failing = bad.submit()
        return quote(good.submit([allow_failure(failing), failing]).wait())

    assert around().unquote().name == "NotReady"


# Children at the end of their flow.


def test_futures_nobody_waited_for_are_waited_for() -> None:
    done, go = [], threading.Event()

    @task
    def slow(n):
        go.wait(30)
        done.append(n)

    @flow
    def around():
        slow.map(range(10))
        threading.Timer(0.01, go.set).start()

    around()
    assert sorted(done) == list(range(10))


def test_tasks_that_tasks_submitted_are_waited_for_too() -> None:
    done, go = [], threading.Event()

    @task
    def inner():
        go.wait(30)
        done.append("inner")

    @task
    def outer():
        inner.submit()

    @flow
    def around():
        outer.submit()
        threading.Timer(0.01, go.set).start()

    around()
    assert done == ["inner"]


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
def test_when_a_flow_raises_what_has_not_started_is_cancelled_and_what_runs_may_end(recorded, is_async: bool) -> None:
    started, go = threading.Event(), threading.Event()

    @task
    def running():
        started.set()
        go.wait(30)
        return "done"

    @task
    def waiting(x=None):
        raise AssertionError("the body must not run")

    def submit_and_fail():
        first = running.submit()
        waiting.map(range(3))
        waiting.submit(first)
        assert started.wait(30)
        threading.Timer(0.01, go.set).start()
        raise KeyError("the flow's own")

    async def asubmit_and_fail():
        submit_and_fail()

    around = flow(asubmit_and_fail if is_async else submit_and_fail, task_runner="concurrent:1")
    with pytest.raises(KeyError, match="own"):
        asyncio.run(around()) if is_async else around()
    assert recorded.task_states("running") == [["Pending", "Running", "Completed"]]
    assert recorded.task_states("waiting") == [["Pending", "Cancelled"]] * 4
    assert recorded.task_runs("waiting")[0].state_message == "The flow run ended before this task run could start."


def test_what_does_not_end_within_the_grace_period_is_crashed(recorded) -> None:
    started, go = threading.Event(), threading.Event()

    @task
    def stubborn():
        started.set()
        go.wait(30)

    @flow
    def around():
        stubborn.submit()
        assert started.wait(30)
        raise KeyError

    with temporary_settings(cancel_grace_seconds=0.01), pytest.raises(KeyError):
        around()
    assert recorded.task_states("stubborn") == [["Pending", "Running", "Crashed"]]
    assert "grace period" in recorded.task_runs("stubborn")[0].state_message
    go.set()


def test_an_async_task_that_runs_when_the_grace_is_over_is_interrupted(recorded) -> None:
    cleaned = []

    @task
    async def stubborn(started):
        started.set()
        try:
            await asyncio.sleep(30)
        finally:
            cleaned.append("up")

    @flow
    async def around():
        started = asyncio.Event()
        stubborn.submit(quote(started))
        await started.wait()
        raise KeyError

    with temporary_settings(cancel_grace_seconds=0.01), pytest.raises(KeyError):
        asyncio.run(around())
    assert cleaned == ["up"]
    assert recorded.task_states("stubborn") == [["Pending", "Running", "Crashed"]]


def test_what_a_running_task_submits_after_its_flow_failed_is_cancelled(recorded) -> None:
    started, go = threading.Event(), threading.Event()

    @task
    def late():
        raise AssertionError("the body must not run")

    @task
    def running():
        started.set()
        go.wait(30)
        return late.submit().wait().name

    @flow
    def around():
        running.submit()
        assert started.wait(30)
        threading.Timer(0.02, go.set).start()
        raise KeyError

    with pytest.raises(KeyError):
        around()
    assert recorded.task_states("late") == [["Pending", "Cancelled"]]


def test_an_async_flow_that_is_cancelled_crashes_with_its_children(recorded) -> None:
    running = []

    @task
    async def forever(all_run):
        running.append(1)
        if len(running) == 2:
            all_run.set()
        await asyncio.sleep(30)

    @flow
    async def around(all_run):
        forever.submit(quote(all_run))
        await forever(quote(all_run))

    async def main():
        all_run = asyncio.Event()
        call = asyncio.create_task(around(all_run))
        await all_run.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    with temporary_settings(interrupt_grace_seconds=0.01):
        asyncio.run(main())
    assert recorded.flow_runs()[0].state_message == "Execution was cancelled by the runtime environment."
    assert [states[-1] for states in recorded.task_states("forever")] == ["Crashed", "Crashed"]
    assert recorded.unfinished() == []


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException], ids=lambda error: error.__name__
)
@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_an_exception_that_is_no_exception_crashes_the_run_and_goes_on(recorded, decorate, error) -> None:
    def body():
        raise error("why")

    decorated = decorate(body)
    with pytest.raises(error):
        decorated()
    state = decorated(return_state=True)
    assert state.is_crashed()
    assert recorded.unfinished() == []
    expected = {
        "KeyboardInterrupt": "Execution was aborted by an interrupt signal.",
        "SystemExit": "Execution was aborted by Python system exit call.",
        "GeneratorExit": "Execution was interrupted by an unexpected exception: GeneratorExit: why",
        "BaseException": "Execution was interrupted by an unexpected exception: BaseException: why",
    }
    assert state.message == expected[error.__name__]


def test_a_crash_in_a_submitted_task_reaches_whoever_asks(recorded) -> None:
    def body():
        raise SystemExit(3)

    future = task(body).submit()
    assert future.wait().is_crashed()
    with pytest.raises(SystemExit):
        future.result()
    assert isinstance(future.result(raise_on_failure=False), SystemExit)


# Context variables.


def test_context_variables_of_the_caller_reach_every_body() -> None:
    variable = contextvars.ContextVar("variable", default="nothing")

    @task
    def read():
        return variable.get()

    @task
    async def aread():
        return variable.get()

    @flow
    def child():
        return variable.get(), read.submit().result()

    @flow
    def around():
        variable.set("set in the flow")
        return read(), read.submit().result(), aread.submit().result(), *child(), *child.submit().result()

    assert set(around()) == {"set in the flow"}

    @flow
    async def async_around():
        variable.set("set in the flow")
        return [await aread(), await aread.submit(), await read.submit(), read()]

    assert set(asyncio.run(async_around())) == {"set in the flow"}


def test_what_a_task_sets_stays_its_own() -> None:
    variable = contextvars.ContextVar("variable", default="outside")

    @task
    def change():
        variable.set("inside")

    flow(lambda: quote([change.submit().wait(), change.submit().wait()]))()
    assert variable.get() == "outside"
