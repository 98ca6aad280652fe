"""A blocking wait on the thread of an event loop is refused when it could never end: also for a task that needs no loop itself, when
async tasks of that loop have all the places of its runner."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
import trio

from prefect_core import as_completed, flow, task, wait
from prefect_core.errors import BlockingWaitError
from prefect_core.task_runners import ExecutorTaskRunner

pytestmark = pytest.mark.usefixtures("recorded")
CURE = "Use `await future`"


@pytest.fixture(params=["asyncio", "trio"])
def run_async(request):
    """Run an async function without arguments on each event loop."""
    return (lambda function: asyncio.run(function())) if request.param == "asyncio" else trio.run


@pytest.fixture
def gate():
    """What `after` waits for; open at the end, so that a failing test leaves no thread behind."""
    event = threading.Event()
    yield event
    event.set()


@task
def good(value=1):
    return value


@task
async def agood(value=1):
    return value


@task
def after(gate, value=1):
    assert gate.wait(30)
    return value


@task
async def hold(begun, end):
    """Keep a place until `end`."""
    begun.set()
    await end.wait()


async def holders(number):
    """Have async tasks take places; returns once they have, with what ends them."""
    end = anyio.Event()
    for _ in range(number):
        begun = anyio.Event()
        hold.submit(begun, end)
        await begun.wait()
    return end


WAITS = pytest.mark.parametrize(
    "blocking",
    [
        lambda: good.submit().result(),
        lambda: good.submit().wait(),
        lambda: good.submit().result(timeout=30),
        lambda: good.submit(return_state=True),
        lambda: wait([good.submit(), good.submit()]),
        lambda: wait([good.submit(), good.submit()], return_when="FIRST_COMPLETED"),
        lambda: list(as_completed([good.submit(), good.submit()])),
        lambda: good.map([1, 2]).result(),
        lambda: good.map([1, 2]).wait(),
        lambda: good.submit(good.submit()).result(),
    ],
    ids=["result", "wait", "timeout", "state", "all", "first", "as_completed", "map", "wait for map", "chain"],
)


@WAITS
@pytest.mark.parametrize("places", [1, 2])
def test_a_wait_for_a_def_task_whose_places_async_tasks_of_this_loop_have_names_the_cure(
    run_async, blocking, places: int
) -> None:
    @flow(task_runner=f"concurrent:{places}")
    async def body():
        end = await holders(places)
        future = good.submit(7)
        with pytest.raises(BlockingWaitError, match=CURE):
            blocking()
        end.set()
        return await future

    assert run_async(body) == 7


@WAITS
def test_the_same_when_the_async_task_takes_the_last_place_only_while_the_wait_lasts(run_async, gate, blocking) -> None:
    @flow(task_runner="concurrent:1")
    async def body():
        end = anyio.Event()
        after.submit(gate)
        hold.submit(anyio.Event(), end)
        threading.Timer(0.02, gate.set).start()
        with pytest.raises(BlockingWaitError, match=CURE):
            blocking()
        end.set()
        return await good.submit(7)

    assert run_async(body) == 7


def test_the_same_when_the_awaited_task_is_ready_for_a_place_only_while_the_wait_lasts(run_async, gate) -> None:
    elsewhere = after.with_options(task_runner="concurrent:1")

    @flow(task_runner="concurrent:1")
    async def body():
        end = await holders(1)
        future = good.submit(elsewhere.submit(gate, 7))
        threading.Timer(0.02, gate.set).start()
        with pytest.raises(BlockingWaitError, match=CURE):
            future.result()
        end.set()
        return await future

    assert run_async(body) == 7


def test_a_wait_is_fine_while_one_place_is_left_for_threads(run_async) -> None:
    @flow(task_runner="concurrent:2")
    async def body():
        end = await holders(1)
        value = good.submit(good.submit(7)).result(), good.map([1, 2, 3]).result()
        end.set()
        return value

    assert run_async(body) == (7, [1, 2, 3])


def test_an_async_task_that_awaits_futures_has_no_place_meanwhile(run_async, gate) -> None:
    @task
    async def around(begun):
        future = after.submit(gate)
        begun.set()
        return await future

    @flow(task_runner="concurrent:1")
    async def body():
        begun = anyio.Event()
        outer = around.submit(begun)
        await begun.wait()
        threading.Timer(0.02, gate.set).start()
        return good.submit(7).result(), await outer

    assert run_async(body) == (7, 1)


def test_an_async_task_that_has_just_ended_has_no_place_any_more(run_async) -> None:
    @flow(task_runner="concurrent:1")
    async def body():
        return [(await agood.submit(number), good.submit(number).result()) for number in range(200)]

    assert run_async(body) == [(number, number) for number in range(200)]


def test_an_async_body_that_blocks_the_loop_of_a_def_flow_in_the_only_place_is_told_so() -> None:
    @task
    async def outer():
        return good.submit().result()

    @flow(task_runner="concurrent:1")
    def body():
        return outer.submit().result()

    with pytest.raises(BlockingWaitError, match=CURE):
        body()


@pytest.mark.parametrize("runner", ["concurrent", "concurrent:1"])
def test_a_wait_for_an_async_task_with_a_runner_of_its_own_names_the_cure(run_async, gate, runner: str) -> None:
    own = agood.with_options(task_runner=runner)

    @flow
    async def body():
        futures = own.submit(7), own.submit(after.submit(gate, 8))
        threading.Timer(0.02, gate.set).start()
        for future in futures:
            with pytest.raises(BlockingWaitError, match=CURE):
                future.result()
        return [await future for future in futures]

    assert run_async(body) == [7, 8]


def test_a_wait_for_async_tasks_that_run_on_another_loop_is_fine(run_async) -> None:
    with ThreadPoolExecutor(1) as executor:

        @flow(task_runner=ExecutorTaskRunner(executor))
        async def body():
            return agood.submit(7).result()

        assert run_async(body) == 7


def test_a_loop_and_a_subflow_on_a_thread_that_would_wait_for_each_other_are_told_so(run_async) -> None:
    asked, box = threading.Event(), []

    @flow
    def child():
        asked.set()
        return box[0].result()

    @flow
    async def body():
        end = anyio.Event()
        box.append(hold.submit(anyio.Event(), end))
        future = child.submit()
        assert asked.wait(30)
        # Whoever of the two waits last is told.
        with pytest.raises(BlockingWaitError):
            future.result()
        end.set()
        await box[0]
        return True

    assert run_async(body)
