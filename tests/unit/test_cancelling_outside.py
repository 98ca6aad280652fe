"""Cancelling task runs outside of flows: called directly, or submitted, at the top of a program."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import anyio
import pytest

from prefect_core import cancel_task_run, flow, runtime, task, why
from prefect_core.errors import CancelledRun, NotCancellable
from prefect_core.reasons import IsRunning
from tests.unit.later import LONG, Later, states
from tests.unit.recorded import Recorded

TASK_MESSAGE = "Task run was cancelled."
CANCELLED = ["Pending", "Running", "Cancelling", "Cancelled"]


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def gate() -> Any:
    """Hold bodies on threads until the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_a_direct_call_is_interrupted_and_not_tried_again(recorded: Recorded, later: Later) -> None:
    called: list[str] = []

    @task(retries=2, on_failure=[lambda *_: called.append("failed")])
    def linger() -> None:
        later.cancel_this_task()
        later.sleep()

    with pytest.raises(CancelledRun, match=TASK_MESSAGE):
        linger()
    assert states(later.join()) == ["Cancelling"]
    assert recorded.task_states("linger") == [CANCELLED]
    assert called == []


def test_with_its_state_in_place_of_its_value(recorded: Recorded, later: Later) -> None:
    @task
    def linger() -> None:
        later.cancel_this_task()
        later.sleep()

    assert linger(return_state=True).message == TASK_MESSAGE
    later.join()
    assert recorded.unfinished() == []


def test_what_it_called_directly_ends_with_it(recorded: Recorded, later: Later) -> None:
    @task(retries=1)
    def inner() -> None:
        later.sleep()

    @task
    def outer() -> None:
        later.cancel_this_task()
        inner()

    with pytest.raises(CancelledRun, match=TASK_MESSAGE):
        outer()
    later.join()
    assert recorded.task_states("outer") == [CANCELLED]
    assert recorded.task_states("inner") == [["Pending", "Running", "Cancelled"]]


def test_one_inside_is_cancelled_alone_and_its_caller_goes_on(recorded: Recorded, later: Later) -> None:
    @task
    def inner() -> None:
        later.cancel_this_task()
        later.sleep()

    @task
    def outer() -> str:
        with pytest.raises(CancelledRun, match=TASK_MESSAGE):
            inner()
        return "went on"

    assert outer() == "went on"
    later.join()
    assert recorded.task_states("inner") == [CANCELLED]


def test_a_flow_that_it_called_does_not_end_its_hearing(recorded: Recorded, later: Later) -> None:
    quick = flow(lambda: 1, name="quick")

    @task
    def outer() -> None:
        quick()
        later.cancel_this_task()
        later.sleep()

    with pytest.raises(CancelledRun, match=TASK_MESSAGE):
        outer()
    later.join()


def test_a_call_that_waits_for_its_inputs_is_cancelled(recorded: Recorded, later: Later, gate: Any) -> None:
    held = task(lambda: gate.wait(LONG), name="held").submit()
    waits = task(lambda _: None, name="waits")

    def cancel() -> Any:
        while not recorded.task_runs("waits"):
            time.sleep(0.001)
        return cancel_task_run(recorded.task_runs("waits")[0].id, LONG)

    later.do(cancel)
    later.begun.set()
    with pytest.raises(CancelledRun):
        waits(held)
    assert states(later.join()) == ["Cancelling"]
    assert recorded.task_states("waits") == [["Pending", "Cancelling", "Cancelled"]]
    gate.set()
    held.wait()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_call_is_cancelled_where_it_awaits(recorded: Recorded, later: Later, backend: str) -> None:
    @task(retries=1)
    async def linger() -> None:
        later.cancel_this_task()
        await later.asleep()

    async def main() -> str:
        with pytest.raises(CancelledRun, match=TASK_MESSAGE):
            await linger()
        return "went on"

    assert anyio.run(main, backend=backend) == "went on"
    later.join()
    assert recorded.task_states("linger") == [CANCELLED]


def test_an_async_one_that_was_submitted(recorded: Recorded, later: Later) -> None:
    @task(retries=1)
    async def linger() -> None:
        later.cancel_this_task()
        await later.asleep()

    assert linger.submit().wait().message == TASK_MESSAGE
    later.join()
    assert recorded.task_states("linger") == [CANCELLED]


def test_a_generator_ends_at_its_next_value(recorded: Recorded) -> None:
    @task
    def count() -> Any:
        yield str(runtime.task_run.id)
        yield 2

    values = count()
    run = next(values)
    assert cancel_task_run(run, LONG).is_cancelling()
    with pytest.raises(CancelledRun):
        next(values)
    assert recorded.task_states("count") == [CANCELLED]


def test_on_a_thread_that_nothing_stops_it_is_left_alone(recorded: Recorded, later: Later, gate: Any) -> None:
    @task(retries=3)
    def hold() -> None:
        later.cancel_this_task(0.02)
        later.begun.set()
        gate.wait(LONG)

    assert hold.submit().wait().message == TASK_MESSAGE
    assert states(later.join()) == ["Cancelling"]
    assert recorded.task_states("hold") == [CANCELLED]


def test_what_has_not_begun_is_taken_back(recorded: Recorded, gate: Any) -> None:
    held = task(lambda: gate.wait(LONG), name="held").submit()
    waits = task(lambda: None, name="waits").submit(wait_for=[held])
    assert cancel_task_run(waits.task_run_id).is_cancelled()
    assert waits.done()
    gate.set()
    held.wait()
    assert recorded.task_states("waits") == [["Pending", "Cancelled"]]


@pytest.mark.parametrize("way", ["call", "submit"])
def test_the_delay_before_a_retry_ends(recorded: Recorded, later: Later, way: str) -> None:
    @task(retries=1, retry_delay_seconds=LONG)
    def flaky() -> None:
        later.do(partial(cancel_when, "AwaitingRetry", recorded))
        later.begun.set()
        raise ValueError

    state = flaky(return_state=True) if way == "call" else flaky.submit().wait()
    later.join()
    assert state.is_cancelled()
    assert recorded.task_runs("flaky")[0].run_count == 1


def cancel_when(name: str, recorded: Recorded) -> Any:
    while recorded.task_runs()[0].state_name != name:
        time.sleep(0.001)
    return cancel_task_run(recorded.task_runs()[0].id, LONG)


def test_calls_on_many_threads_are_told_apart(recorded: Recorded, gate: Any) -> None:
    ends: dict[int, str] = {}

    @task
    def hold(number: int) -> None:
        begun[number].set()
        gate.wait(LONG)

    def call(number: int) -> None:
        ends[number] = hold(number, return_state=True).name

    begun = [threading.Event() for _ in range(4)]
    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread, has_begun in zip(threads, begun, strict=True):
        thread.start()
        assert has_begun.wait(LONG)
    assert cancel_task_run(recorded.task_runs("hold")[2].id, 0).is_cancelling()
    until = time.monotonic() + LONG
    while recorded.task_runs("hold")[2].state_name != "Cancelled":
        assert time.monotonic() < until
        time.sleep(0.001)
    gate.set()
    for thread in threads:
        thread.join(LONG)
    assert ends == {0: "Completed", 1: "Completed", 2: "Cancelled", 3: "Completed"}


def test_it_may_end_itself(recorded: Recorded) -> None:
    @task
    def ends_itself() -> None:
        cancel_task_run(runtime.task_run.id, LONG)
        time.sleep(LONG)

    with pytest.raises(CancelledRun):
        ends_itself()


def test_runs_that_have_ended_are_refused(recorded: Recorded) -> None:
    quick = task(lambda: 1, name="quick")
    quick()
    [row] = recorded.task_runs("quick")
    with pytest.raises(NotCancellable) as refused:
        cancel_task_run(row.id)
    assert str(refused.value) == (
        f"Task run '{row.id}' was unable to be cancelled. Reason: 'Run is already in terminal state COMPLETED.'"
    )


def test_why_it_runs_is_answered_too(recorded: Recorded, gate: Any) -> None:
    begun = threading.Event()

    @task
    def hold() -> None:
        begun.set()
        gate.wait(LONG)

    future = hold.submit()
    assert begun.wait(LONG)
    told = why(future.task_run_id)
    assert isinstance(told.reason, IsRunning)
    assert (told.has_answered, told.reason.runner) == (True, "ConcurrentTaskRunner")
    gate.set()
    future.wait()
