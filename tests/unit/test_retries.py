"""Retries: how many, after which delays, under which condition, and what is recorded of them."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_core import flow, task
from prefect_core.context import get_run_context
from prefect_core.retry_delays import jittered
from prefect_core.states import Failed
from prefect_core.tasks import exponential_backoff


class Flaky:
    """A body that fails some times and then returns the number of its calls."""

    def __init__(self, failures: int, error: type[BaseException] = ValueError) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0
        self.counts: list[int] = []

    def __call__(self) -> int:
        self.calls += 1
        self.counts.append(get_run_context().run.run_count)
        if self.calls <= self.failures:
            raise self.error(f"call {self.calls}")
        return self.calls


WAYS = {
    "task called": lambda body, **options: task(body, **options)(return_state=True),
    "task submitted": lambda body, **options: task(body, **options).submit().wait(),
    "flow": lambda body, **options: flow(body, **options)(return_state=True),
}


@pytest.fixture(params=WAYS)
def run(request, recorded):
    return WAYS[request.param]


def test_a_run_is_tried_until_it_succeeds(run) -> None:
    body = Flaky(2)
    state = run(body, retries=5)
    assert (state.name, state.result(), body.calls, body.counts) == ("Completed", 3, 3, [1, 2, 3])


def test_there_are_as_many_attempts_as_retries_and_one(run) -> None:
    body = Flaky(99)
    state = run(body, retries=2)
    assert state.is_failed()
    assert "ValueError: call 3" in state.message
    assert body.calls == 3


def test_without_retries_a_run_fails_at_once(run) -> None:
    body = Flaky(1)
    assert run(body).is_failed()
    assert body.calls == 1


def test_a_crash_is_never_retried(run) -> None:
    body = Flaky(1, SystemExit)
    assert run(body, retries=3).is_crashed()
    assert body.calls == 1


def test_a_returned_failed_state_is_retried(run) -> None:
    body = Flaky(0)
    state = run(lambda: Failed(message="not yet") if body() < 3 else "done", retries=2)
    assert state.result() == "done"


def test_every_state_of_every_attempt_is_recorded(recorded) -> None:
    task(Flaky(2), name="t", retries=2)()
    assert recorded.task_states("t") == [
        ["Pending", "Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Completed"]
    ]
    flow(Flaky(1), name="f", retries=1)()
    row = recorded.flow_runs("f")[0]
    assert recorded.states_of(row) == ["Pending", "Running", "AwaitingRetry", "Running", "Completed"]
    assert row.run_count == 2
    attempts = recorded.store.attempts(recorded.task_runs("t")[0].key)
    assert [attempt.attempt for attempt in attempts] == [1, 2, 3]


def test_a_child_that_completed_in_an_earlier_attempt_of_a_flow_is_taken_over(recorded) -> None:
    counted.body = Flaky(0)
    child = task(counted, name="child")
    flaky = Flaky(1)

    @flow(retries=1)
    def around():
        first = child()
        flaky()
        return first

    assert around() == 1
    assert counted.body.calls == 1
    assert recorded.task_states("child") == [["Pending", "Running", "Completed"]]


def counted() -> int:
    """Do what the test put here. Of the object itself, nothing would tell whether it is still what it was."""
    return counted.body()


def test_a_child_that_nothing_is_known_by_runs_in_each_attempt(recorded) -> None:
    child = task(lambda unknown: None, name="child")
    flaky = Flaky(1)

    @flow(retries=1)
    def around():
        child(object())
        flaky()

    assert str(around(return_state=True)) == "Completed('All states completed.')"
    assert [row.name for row in recorded.task_runs("child")] == ["child-0", "child-0"]


def test_a_child_that_failed_in_an_earlier_attempt_of_a_flow_gets_another_one(recorded) -> None:
    counted.body = Flaky(1)
    child = task(counted, name="child")

    @flow(retries=1)
    def around():
        child()

    around()
    assert recorded.task_states("child") == [["Pending", "Running", "Failed", "Pending", "Retrying", "Completed"]]


def test_a_child_that_failed_in_an_earlier_attempt_is_forgiven() -> None:
    flaky = Flaky(1)
    child = task(lambda: flaky())

    @flow(retries=1)
    def around():
        child()

    assert str(around(return_state=True)) == "Completed('All states completed.')"


def test_a_flow_that_failed_by_its_children_is_tried_again(recorded) -> None:
    flaky = Flaky(1)
    child = task(lambda: flaky())

    @flow(retries=1)
    def around():
        child.submit()

    assert str(around(return_state=True)) == "Completed('All states completed.')"


# Delays, of direct calls, through the clock's seam.


def slept(stepped_clock, **options) -> list[float]:
    stepped_clock.slept.clear()
    task(Flaky(99), **options)(return_state=True)
    return stepped_clock.slept


@pytest.mark.parametrize(
    ("delays", "expected"),
    [
        (7, [7, 7, 7]),
        (0, []),
        ([1, 2, 3], [1, 2, 3]),
        ([1, 2], [1, 2, 2]),
        ([5], [5, 5, 5]),
        ([], []),
        ([0, 4], [4, 4]),
        (exponential_backoff(10), [10, 20, 40]),
        (lambda retries: [retries] * retries, [3, 3, 3]),
    ],
    ids=["number", "none", "list", "the last repeats", "one", "empty", "first at once", "backoff", "callable"],
)
@pytest.mark.usefixtures("recorded")
def test_delays_between_attempts(stepped_clock, delays, expected: list[float]) -> None:
    assert slept(stepped_clock, retries=3, retry_delay_seconds=delays) == expected


@pytest.mark.usefixtures("recorded")
def test_a_flow_waits_the_same_delay_each_time(stepped_clock) -> None:
    flow(Flaky(99), retries=2, retry_delay_seconds=1.5)(return_state=True)
    assert stepped_clock.slept == [1.5, 1.5]


@pytest.mark.usefixtures("recorded")
def test_a_run_that_awaits_its_retry_says_until_when() -> None:
    seen = []

    class Watching(Flaky):
        pass

    body = Watching(1)

    def condition(subject, run, state):
        seen.append(state)
        return True

    task(body, retries=1, retry_delay_seconds=0.001, retry_condition_fn=condition).submit().result()
    assert seen[0].name == "Failed"


def test_the_scheduled_time_of_a_retry_is_recorded(recorded, stepped_clock) -> None:
    task(Flaky(1), name="t", retries=1, retry_delay_seconds=3600)()
    recorded.recorder.flush()
    states = recorded.store.states(recorded.task_runs("t")[0].key)
    awaiting = next(state for state in states if state.name == "AwaitingRetry")
    assert awaiting.message == "Task run encountered an exception ValueError: call 1"


@pytest.mark.parametrize("runner", ["concurrent", "sequential"])
def test_a_submitted_task_waits_its_delays_without_holding_a_thread(recorded, runner: str) -> None:
    body = Flaky(2)

    @flow(task_runner=runner)
    def around():
        return task(body, name="t", retries=2, retry_delay_seconds=0.001).submit().result()

    assert around() == 3
    assert recorded.task_states("t")[0].count("AwaitingRetry") == 2


def test_on_the_sequential_runner_a_retried_task_has_ended_when_submit_returns(recorded) -> None:
    import threading

    threads = []
    flaky = Flaky(1)

    def body():
        threads.append(threading.current_thread())
        return flaky()

    @flow(task_runner="sequential")
    def around():
        future = task(body, retries=1, retry_delay_seconds=0.001, on_completion=[lambda *_: None]).submit()
        assert future.done()
        return future.result()

    assert around() == 2
    assert set(threads) == {threading.current_thread()}


def test_an_async_task_and_an_async_flow_are_retried(recorded) -> None:
    flaky_task, flaky_flow = Flaky(1), Flaky(1)

    @task(retries=1, retry_delay_seconds=0.001)
    async def child():
        return flaky_task()

    @flow(retries=1, retry_delay_seconds=0.001)
    async def around():
        called = await child()
        flaky_flow()
        return called

    assert asyncio.run(around()) == 3
    assert flaky_task.calls == 3


# Jitter.


@given(st.floats(0.001, 1e6), st.floats(0, 1e6))
def test_a_jittered_delay_stays_within_its_bounds(delay: float, factor: float) -> None:
    k = 1 + factor
    drawn = jittered(delay, factor)
    least = delay * -math.log2(1 - 2**-k) if k < 50 else 0
    assert least * (1 - 1e-9) <= drawn <= delay * k * (1 + 1e-9)


def test_jittered_delays_differ_and_are_about_the_delay_in_the_mean() -> None:
    drawn = [jittered(10, 1.0) for _ in range(3000)]
    assert len(set(drawn)) > 1000
    assert 8 < sum(drawn) / len(drawn) < 12


@pytest.mark.usefixtures("recorded")
def test_jitter_is_applied_to_each_delay(stepped_clock) -> None:
    delays = slept(stepped_clock, retries=20, retry_delay_seconds=10, retry_jitter_factor=0.5)
    assert len(set(delays)) > 1
    assert all(10 * -math.log2(1 - 2**-1.5) <= delay <= 15 for delay in delays)
    assert slept(stepped_clock, retries=2, retry_delay_seconds=10, retry_jitter_factor=0) == [10, 10]


# The condition.


@pytest.mark.parametrize("way", ["task called", "task submitted"])
@pytest.mark.parametrize("kind", ["def", "async def", "object", "async object"])
@pytest.mark.parametrize(("answer", "calls"), [(True, 3), ("yes", 3), (False, 1), (None, 1), (0, 1)])
@pytest.mark.usefixtures("recorded")
def test_the_condition_decides_whether_a_run_is_tried_again(way: str, kind: str, answer: object, calls: int) -> None:
    seen = []

    def plain(subject, run, state):
        seen.append((subject, run, state))
        return answer

    async def coroutine(subject, run, state):
        await asyncio.sleep(0)
        return plain(subject, run, state)

    class Object:
        def __call__(self, *args):
            return plain(*args)

    class AsyncObject:
        async def __call__(self, *args):
            return await coroutine(*args)

    condition = {"def": plain, "async def": coroutine, "object": Object(), "async object": AsyncObject()}[kind]
    body = Flaky(99)
    state = WAYS[way](body, retries=2, retry_condition_fn=condition)
    assert state.is_failed()
    assert body.calls == calls
    # It is asked only while retries remain.
    assert len(seen) == min(calls, 2)
    assert (seen[0][2].name, seen[0][2].data.args) == ("Failed", ("call 1",))
    assert seen[0][1].run_count == calls or calls > 1


@pytest.mark.usefixtures("recorded")
def test_a_condition_that_fails_is_logged_and_means_no(caplog) -> None:
    def broken(*_):
        raise ValueError("broken condition")

    body = Flaky(99)
    state = task(body, name="t", retries=2, retry_condition_fn=broken)(return_state=True)
    assert "call 1" in state.message
    assert body.calls == 1
    assert "An error was encountered while running `retry_condition_fn` check 'broken' for task 't'" in caplog.text


@pytest.mark.usefixtures("recorded")
def test_without_retries_the_condition_is_never_asked() -> None:
    assert task(lambda: 1 / 0, retry_condition_fn=lambda *_: pytest.fail("asked"))(return_state=True).is_failed()


@pytest.mark.usefixtures("recorded")
def test_each_retry_is_told_in_the_log(caplog) -> None:
    caplog.set_level("INFO", logger="prefect_core")
    task(Flaky(99), retries=2, retry_delay_seconds=[0, 0.001])(return_state=True)
    assert "Task run failed with exception: ValueError('call 1') - Retry 1/2 will start immediately" in caplog.text
    assert (
        "Task run failed with exception: ValueError('call 2') - Retry 2/2 will start 0.001 second(s) from now"
        in caplog.text
    )
    assert "Task run failed with exception: ValueError('call 3') - Retries are exhausted" in caplog.text


# What a flow that ends does to retries.


def test_a_retry_that_has_not_begun_when_its_flow_fails_is_cancelled(recorded) -> None:
    import threading

    failed_once = threading.Event()

    @task(name="t", retries=1, retry_delay_seconds=3600, retry_condition_fn=lambda *_: failed_once.set() or True)
    def body():
        raise ValueError

    @flow
    def around():
        future = body.submit()
        assert failed_once.wait(30)
        while future.state.name != "AwaitingRetry":
            pass
        raise KeyError

    with pytest.raises(KeyError):
        around()
    assert recorded.task_states("t")[0][-1] == "Cancelled"
