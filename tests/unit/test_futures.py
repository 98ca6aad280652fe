"""Futures: results, waiting, callbacks, awaiting, and waiting for several."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import anyio
import pytest
import trio

from prefect_core import PrefectFuture, as_completed, flow, task, wait
from prefect_core.errors import BlockingWaitError, UnfinishedRun
from prefect_core.futures import FIRST_COMPLETED, FIRST_EXCEPTION, PrefectFutureList, resolve_futures_to_states
from prefect_core.settings import temporary_settings
from prefect_core.stored import Stored

pytestmark = pytest.mark.usefixtures("recorded")


class Gate:
    """Lets tasks go when the test says so."""

    def __init__(self) -> None:
        self._events = {key: threading.Event() for key in "abc"}

    def of(self, key: str) -> threading.Event:
        return self._events[key]

    def open_all(self) -> None:
        for event in self._events.values():
            event.set()


@pytest.fixture
def gate():
    """Open all gates at the end, so that a failing test leaves no thread behind."""
    gate = Gate()
    yield gate
    gate.open_all()


@task
def held(gate, key):
    assert gate.of(key).wait(30)
    return key


@task
def good(value=1):
    return value


@task
def bad(text="x"):
    raise ValueError(text)


@pytest.fixture(params=[good, good.with_options(task_runner="sequential")], ids=["concurrent", "sequential"])
def some(request):
    return request.param


def test_a_future_gives_the_value_the_state_and_the_identity(some) -> None:
    future = some.submit(5)
    assert future.result() == 5
    assert future.result(timeout=0) == 5
    assert future.wait() is future.state
    assert future.state.is_completed()
    assert future.done()
    assert future.task_run_id == future.task_run.id == future.state.state_details.task_run_id
    assert future.name.startswith("good-")
    assert isinstance(future, PrefectFuture)


def test_a_failed_run_raises_its_own_exception_or_gives_it() -> None:
    future = bad.submit("mine")
    with pytest.raises(ValueError, match="mine"):
        future.result()
    assert future.result(raise_on_failure=False).args == ("mine",)
    assert future.state.is_failed()


def test_the_state_of_a_run_under_way_can_be_seen(gate) -> None:
    future = held.submit(gate, "a")
    assert not future.done()
    assert not future.state.is_final()
    gate.of("a").set()
    assert future.wait().is_completed()


def test_a_wait_that_takes_too_long_gives_none_and_a_result_raises(gate) -> None:
    future = held.submit(gate, "a")
    assert future.wait(timeout=0) is None
    assert future.wait(timeout=0.001) is None
    with pytest.raises(TimeoutError, match=rf"Task run {future.task_run_id} did not complete within 0.001 seconds"):
        future.result(timeout=0.001)


def test_a_negative_timeout_is_refused_everywhere(gate) -> None:
    future = held.submit(gate, "a")
    listed = PrefectFutureList([future])
    for call in (
        lambda: future.wait(-1),
        lambda: future.result(-1),
        lambda: wait([future], -1),
        lambda: as_completed([future], -1),
        lambda: listed.result(-1),
        lambda: listed.wait(-1),
    ):
        with pytest.raises(ValueError, match="'timeout' must be a non-negative number, got -1"):
            call()


def test_futures_are_told_apart_by_identity_and_are_true() -> None:
    one, other = good.submit(1), good.submit(1)
    assert one == one
    assert one != other
    assert len({one, other, one}) == 2
    assert hash(one) == hash(one)
    assert bool(one) is True
    wait([one, other])


def test_the_repr_names_the_run_and_its_state() -> None:
    future = good.submit()
    future.wait()
    assert repr(future) == f"PrefectFuture('{future.name}', Completed())"
    assert "Completed" in future._repr_html_()


# Callbacks.


def test_a_callback_is_called_once_with_the_future_and_at_once_if_it_is_done(gate) -> None:
    calls = []
    future = held.submit(gate, "a")
    future.add_done_callback(lambda done: calls.append((done, done.state.name)))
    assert calls == []
    gate.of("a").set()
    future.wait()
    future.add_done_callback(lambda done: calls.append((done, "late")))
    assert calls == [(future, "Completed"), (future, "late")]


def test_a_callback_that_fails_is_logged_and_keeps_no_other_from_its_turn(gate, caplog) -> None:
    calls = []
    future = held.submit(gate, "a")
    future.add_done_callback(lambda done: 1 / 0)
    future.add_done_callback(calls.append)
    gate.of("a").set()
    assert future.result() == "a"
    future.add_done_callback(lambda done: calls.append("second"))
    assert calls == [future, "second"]
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_may_submit_further_tasks() -> None:
    further = []
    seen = threading.Event()

    def submit_more(done):
        further.append(good.submit(done.result() + 1))
        seen.set()

    good.submit(1).add_done_callback(submit_more)
    assert seen.wait(30)
    assert further[0].result() == 2


# Several.


def test_wait_gives_the_done_and_the_others(gate) -> None:
    done, open_ = good.submit(), held.submit(gate, "a")
    done.wait()
    result = wait([done, open_, done], timeout=0)
    assert result == ({done}, {open_})
    assert result.done == {done}
    assert result.not_done == {open_}
    gate.of("a").set()
    assert wait([done, open_]) == ({done, open_}, set())
    assert wait([]) == (set(), set())


def test_wait_may_return_with_the_first(gate) -> None:
    a, b = held.submit(gate, "a"), held.submit(gate, "b")
    gate.of("b").set()
    assert wait([a, b], return_when=FIRST_COMPLETED).done == {b}


def test_wait_may_return_with_the_first_failure(gate) -> None:
    a, fine, failed = held.submit(gate, "a"), good.submit(), bad.submit()
    fine.wait()
    result = wait([a, fine, failed], return_when=FIRST_EXCEPTION)
    assert failed in result.done
    assert result.not_done == {a}
    gate.of("a").set()
    assert wait([a, fine], return_when=FIRST_EXCEPTION).not_done == set()


def test_wait_knows_its_words() -> None:
    with pytest.raises(
        ValueError, match="return_when must be ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION, got 'SOON'"
    ):
        wait([], return_when="SOON")


def test_as_completed_gives_each_once_in_the_order_of_their_ends(gate) -> None:
    futures = [held.submit(gate, key) for key in "abc"]
    order = []
    gate.of("b").set()
    for future in as_completed([*futures, *futures]):
        order.append(future.result())
        gate.of({"b": "c", "c": "a", "a": "a"}[order[-1]]).set()
    assert order == ["b", "c", "a"]


def test_as_completed_gives_the_done_ones_before_it_is_late(gate) -> None:
    done, open_ = good.submit(), held.submit(gate, "a")
    done.wait()
    seen = []
    with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
        for future in as_completed([open_, done], timeout=0):
            seen.append(future)
    assert seen == [done]
    assert list(as_completed([], timeout=0)) == []


def test_a_list_gives_results_and_states_in_order(gate) -> None:
    first, second = held.submit(gate, "a"), good.submit(2)
    listed = PrefectFutureList([first, second, first])
    assert listed.wait(timeout=0) is None
    with pytest.raises(TimeoutError, match="Timed out waiting for all futures to complete within 0.001 seconds"):
        listed.result(timeout=0.001)
    gate.of("a").set()
    assert listed.result() == ["a", 2, "a"]
    assert [state.name for state in listed.wait()] == ["Completed"] * 3


def test_a_list_raises_the_first_failure_in_order_or_gives_all() -> None:
    listed = PrefectFutureList([good.submit(1), bad.submit("first"), bad.submit("second")])
    with pytest.raises(ValueError, match="first"):
        listed.result()
    assert [type(value).__name__ for value in listed.result(raise_on_failure=False)] == [
        "int",
        "ValueError",
        "ValueError",
    ]


def test_many_futures_resolve_to_their_states() -> None:
    assert [state.name for state in resolve_futures_to_states([good.submit(), bad.submit()])] == ["Completed", "Failed"]


def test_a_run_that_could_not_start_is_done_without_a_result() -> None:
    future = good.submit(bad.submit())
    assert future.wait().name == "NotReady"
    with pytest.raises(UnfinishedRun):
        future.result()
    with pytest.raises(UnfinishedRun):
        future.result(raise_on_failure=False)


# Awaiting.


@pytest.fixture(params=[asyncio.run, None], ids=["asyncio", "trio"])
def run_async(request):
    """Run an async function without arguments on each event loop."""
    return (lambda function: asyncio.run(function())) if request.param else (lambda function: trio.run(function))


@task
async def agood(value=1):
    return value


def test_a_future_is_awaited_for_its_value(run_async) -> None:
    @flow
    async def body():
        future, failing = agood.submit(2), bad.submit("y")
        with pytest.raises(ValueError, match="y"):
            await failing
        return await future, await future, await good.submit(3), await agood.map([4, 5])

    assert run_async(body) == (2, 2, 3, [4, 5])


def test_as_completed_is_iterated_over_in_async_code(run_async) -> None:
    @flow
    async def body():
        return sorted([await future async for future in as_completed([agood.submit(1), good.submit(2)])])

    assert run_async(body) == [1, 2]


def test_as_completed_is_late_in_async_code_too(run_async, gate) -> None:
    @flow
    async def body():
        open_ = held.submit(gate, "a")
        try:
            with pytest.raises(TimeoutError, match=r"1 \(of 1\) futures unfinished"):
                async for _ in as_completed([open_], timeout=0.001):
                    raise AssertionError("nothing is done")
        finally:
            gate.of("a").set()
        return await open_

    assert run_async(body) == "a"


def test_many_coroutines_may_await_one_future() -> None:
    @flow
    async def body():
        future = agood.submit(3)

        async def value():
            return await future

        return await asyncio.gather(*[value() for _ in range(20)])

    assert asyncio.run(body()) == [3] * 20


# Waits that could never return.


@pytest.mark.parametrize(
    "blocking",
    [
        lambda future: future.result(),
        lambda future: future.wait(),
        lambda future: wait([future]),
        lambda future: list(as_completed([future])),
        lambda future: PrefectFutureList([future]).result(),
    ],
    ids=["result", "wait", "wait function", "as_completed", "list"],
)
def test_a_blocking_wait_on_the_loop_that_has_to_run_the_task_names_the_cure(run_async, blocking) -> None:
    @flow
    async def body():
        direct = agood.submit(1)
        behind = good.submit(direct)
        for future in (direct, behind):
            with pytest.raises(BlockingWaitError, match="Use `await future`"):
                blocking(future)
        return await behind

    assert run_async(body) == 1


def test_a_blocking_wait_for_an_async_subflow_names_the_cure(run_async) -> None:
    @flow
    async def child(x=7):
        return await agood(x)

    @flow
    def plain(x):
        return x

    @flow
    async def body():
        submitted = child.submit()
        for future in (submitted, good.submit(submitted), plain.submit(submitted), plain.submit(agood.submit(1))):
            with pytest.raises(BlockingWaitError, match="Use `await future`"):
                future.result()
        return await submitted

    assert run_async(body) == 7


def test_a_blocking_wait_for_what_runs_on_threads_is_fine_in_async_code(run_async) -> None:
    @flow
    def child():
        return 3

    @flow
    async def body():
        return good.submit(1).result(), good.submit(good.submit(2)).result(), child.submit().result()

    assert run_async(body) == (1, 2, 3)


def test_a_wait_with_a_timeout_is_no_endless_wait() -> None:
    @flow
    async def body():
        future = agood.submit(1)
        assert future.wait(timeout=0) is None
        return await future

    assert asyncio.run(body()) == 1


def test_a_body_that_waits_for_itself_is_told_so() -> None:
    box: list[PrefectFuture] = []
    filled = threading.Event()

    @task
    def body():
        filled.wait(30)
        return box[0].result()

    @flow
    def around():
        box.append(body.submit())
        filled.set()
        return box[0].result()

    with pytest.raises(BlockingWaitError, match="itself"):
        around()


def test_an_async_body_that_awaits_itself_is_told_so() -> None:
    box: list[PrefectFuture] = []

    @task
    async def body():
        return await box[0]

    @flow
    async def around():
        box.append(body.submit())
        return await box[0]

    with pytest.raises(BlockingWaitError, match="itself"):
        asyncio.run(around())


@pytest.mark.parametrize("first", ["the loop", "the task"])
def test_a_loop_and_a_task_that_would_wait_for_each_other_are_told_so(recorded, first: str) -> None:
    asked, blocked = threading.Event(), threading.Event()

    @task
    def outer():
        inner = agood.submit(1)
        if first == "the loop":
            # The loop's thread is about to block; whoever of the two waits last is told.
            assert blocked.wait(30)
        asked.set()
        return inner.result()

    @flow
    async def body():
        future = outer.submit()
        if first == "the loop":
            blocked.set()
        else:
            assert asked.wait(30)
        return future.result()

    with pytest.raises(BlockingWaitError, match="await future"):
        asyncio.run(body())
    assert recorded.unfinished() == []


def test_two_tasks_that_wait_for_each_other_are_told_so(recorded) -> None:
    box, filled = [], threading.Event()

    @task
    def body(other):
        filled.wait(30)
        return box[other].result()

    @flow
    def around():
        box.extend([body.submit(1), body.submit(0)])
        filled.set()
        return [future.wait().name for future in box], [type(future.result(raise_on_failure=False)) for future in box]

    names, errors = around()
    assert set(names) == {"Failed"}
    assert set(errors) == {BlockingWaitError}


def test_a_loop_that_blocks_for_threads_alone_holds_no_other_wait_up(recorded) -> None:
    @task
    def inner(x):
        return x

    @task
    def outer(x):
        return sum(future.result() for future in [inner.submit(x), inner.submit(inner.submit(x))])

    @flow(task_runner="concurrent:2")
    async def body():
        return outer.map([1, 2, 3]).result()

    assert asyncio.run(body()) == [2, 4, 6]


def test_a_callback_that_wants_to_exit_leaves_the_others_and_the_thread_alone(gate, caplog) -> None:
    def leave(_):
        raise SystemExit

    calls = []
    future = held.submit(gate, "a")
    future.add_done_callback(leave)
    future.add_done_callback(calls.append)
    behind = good.submit(future)
    gate.of("a").set()
    assert behind.result() == "a"
    assert calls == [future]
    assert "SystemExit" in caplog.text


def test_ctrl_c_ends_a_wait_that_blocks_the_thread_of_the_loop(recorded, gate) -> None:
    @flow
    async def body():
        future = held.submit(gate, "a")
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
        return future.result()

    with temporary_settings(interrupt_grace_seconds=0.01), pytest.raises(KeyboardInterrupt):
        asyncio.run(body())
    assert [row.state_message for row in recorded.flow_runs()] == ["Execution was aborted by an interrupt signal."]
    assert recorded.unfinished() == []


class _Afar(Stored):
    """A value that takes a thread of its own to be had."""

    def __init__(self, value: object) -> None:
        self.value = value
        self.threads: list[int] = []
        self.is_wanted, self.may_come = threading.Event(), threading.Event()

    def load(self) -> object:
        self.threads.append(threading.get_ident())
        self.is_wanted.set()
        assert self.may_come.wait(10)
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.mark.parametrize("in_list", [False, True])
def test_awaiting_a_value_that_lies_elsewhere_leaves_the_loop_free(run_async, in_list: bool) -> None:
    afar = _Afar(5)

    @flow
    async def body():
        future = agood.submit(0)
        await future
        future.task_run.state.data = afar

        async def go_on() -> None:
            while not afar.is_wanted.is_set():
                await anyio.sleep(0.001)
            # Were the loop blocked, nobody would.
            afar.may_come.set()

        async with anyio.create_task_group() as group:
            group.start_soon(go_on)
            value = await (PrefectFutureList([future]) if in_list else future)
        assert threading.get_ident() not in afar.threads
        return value

    assert run_async(body) == ([5] if in_list else 5)


def test_what_keeps_an_awaited_value_from_being_had_is_raised(run_async) -> None:
    afar = _Afar(KeyError("gone"))
    afar.may_come.set()

    @flow
    async def body():
        future = agood.submit(0)
        await future
        future.task_run.state.data = afar
        with pytest.raises(KeyError, match="gone"):
            await future
        return True

    assert run_async(body)
