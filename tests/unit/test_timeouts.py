"""Timeouts of flows and tasks of both colours, on the main thread and on others, alone and inside each other.

Bodies that are to be late wait on an event that nobody sets; deadlines are some milliseconds away.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import pytest
import trio

from prefect_core import flow, task

SOON = 0.01
LATE = 30


@pytest.fixture
def never():
    """Something to wait for; opened at the end, so that no thread stays behind."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(params=["main thread", "other thread"])
def on_thread(request):
    """Call a function on the main thread or on another one, and give its value."""

    def call(function):
        if request.param == "main thread":
            return function()
        outcome = []
        thread = threading.Thread(target=lambda: outcome.append(function()))
        thread.start()
        thread.join(LATE)
        return outcome[0]

    return call


@pytest.mark.parametrize(("decorate", "kind"), [(task, "Task"), (flow, "Flow")], ids=["task", "flow"])
def test_a_body_that_takes_too_long_ends_timed_out(recorded, on_thread, never, decorate, kind: str) -> None:
    body = decorate(lambda: never.wait(LATE), timeout_seconds=SOON)
    state = on_thread(lambda: body(return_state=True))
    assert (state.name, state.type.value) == ("TimedOut", "FAILED")
    assert state.message == f"{kind} run exceeded timeout of 0.01 second(s)"
    with pytest.raises(TimeoutError, match=r"Scope timed out after 0.01 second\(s\)."):
        state.result()
    assert recorded.unfinished() == []


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_a_body_that_is_in_time_keeps_its_value(recorded, on_thread, decorate) -> None:
    body = decorate(lambda x: x + 1, timeout_seconds=LATE)
    assert on_thread(lambda: body(1)) == 2
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_an_exception_in_time_is_an_ordinary_failure(recorded, on_thread, decorate) -> None:
    state = on_thread(lambda: decorate(lambda: 1 / 0, timeout_seconds=LATE)(return_state=True))
    assert (state.name, type(state.data)) == ("Failed", ZeroDivisionError)


@pytest.mark.parametrize("run", [asyncio.run, None], ids=["asyncio", "trio"])
@pytest.mark.parametrize(("decorate", "kind"), [(task, "Task"), (flow, "Flow")], ids=["task", "flow"])
def test_an_async_body_is_cancelled_at_its_deadline(recorded, run, decorate, kind: str) -> None:
    import anyio

    cleaned = []

    @decorate(timeout_seconds=SOON)
    async def body():
        try:
            await anyio.sleep(LATE)
        finally:
            cleaned.append("up")

    async def main():
        return await body(return_state=True)

    state = run(main()) if run else trio.run(main)
    assert str(state) == f"TimedOut('{kind} run exceeded timeout of 0.01 second(s)', type=FAILED)"
    assert cleaned == ["up"]


@pytest.mark.parametrize("runner", ["concurrent", "concurrent:1", "sequential"])
@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
def test_a_submitted_task_ends_timed_out_on_every_runner(recorded, never, runner: str, is_async: bool) -> None:
    async def late():
        await asyncio.sleep(LATE)

    body = task(late if is_async else lambda: never.wait(LATE), timeout_seconds=SOON)

    @flow(task_runner=runner)
    def around():
        return body.submit().wait().name, task(lambda: 5).submit().result()

    assert around() == ("TimedOut", 5)


def test_the_late_result_of_a_body_that_ran_on_is_dropped(recorded) -> None:
    go, ended = threading.Event(), threading.Event()

    def body():
        go.wait(LATE)
        ended.set()
        return "late"

    future = task(body, name="t", timeout_seconds=SOON).submit()
    assert future.wait().name == "TimedOut"
    go.set()
    assert ended.wait(LATE)
    assert future.state.name == "TimedOut"
    assert recorded.task_states("t") == [["Pending", "Running", "TimedOut"]]


def test_a_late_body_gives_its_place_back(recorded, never) -> None:
    @flow(task_runner="concurrent:1")
    def around():
        late = [task(lambda: never.wait(LATE), timeout_seconds=SOON).submit() for _ in range(3)]
        return [future.wait().name for future in late] + [task(lambda: "free").submit().result()]

    assert around() == ["TimedOut"] * 3 + ["free"]


def test_a_timeout_is_retried_and_only_the_last_one_is_called_so(recorded) -> None:
    calls = []

    @task(name="t", timeout_seconds=SOON, retries=2)
    def body():
        calls.append(1)
        time.sleep(LATE)

    assert body(return_state=True).name == "TimedOut"
    assert len(calls) == 3
    assert recorded.task_states("t")[0] == [
        "Pending",
        *["Running", "AwaitingRetry"],
        *["Retrying", "AwaitingRetry"],
        "Retrying",
        "TimedOut",
    ]


@pytest.mark.parametrize("way", ["submitted", "other thread"])
def test_a_retry_after_a_timeout_starts_only_once_the_late_body_has_ended(recorded, way: str) -> None:
    release, running, at_once = threading.Event(), [], []

    @task(name="t", timeout_seconds=SOON, retries=1, retry_condition_fn=lambda *_: release.set() or True)
    def body():
        running.append(1)
        at_once.append(len(running))
        first = len(at_once) == 1
        if first:
            release.wait(LATE)
            # The deadline has passed; the retry may not begin before this body ends.
        running.pop()
        return "second" if not first else "first"

    if way == "submitted":
        assert body.submit().result() == "second"
    else:
        outcome = []
        thread = threading.Thread(target=lambda: outcome.append(body()))
        thread.start()
        thread.join(LATE)
        assert outcome == ["second"]
    assert at_once == [1, 1]


def test_the_timeout_of_a_flow_counts_for_each_attempt(recorded) -> None:
    calls = []

    @flow(timeout_seconds=SOON, retries=2)
    def body():
        calls.append(1)
        time.sleep(LATE)

    assert body(return_state=True).name == "TimedOut"
    assert len(calls) == 3


def test_a_timeout_error_of_the_user_is_a_timeout_too(recorded) -> None:
    def body():
        raise TimeoutError("mine")

    state = task(body)(return_state=True)
    assert str(state) == "TimedOut(\"Task run failed due to timeout: TimeoutError('mine')\", type=FAILED)"
    state = flow(body, timeout_seconds=LATE)(return_state=True)
    assert state.message == "Flow run failed due to timeout: TimeoutError('mine')"
    with pytest.raises(TimeoutError, match="mine"):
        state.result()


def test_a_cancelled_error_of_the_user_is_a_crash_and_no_timeout(recorded) -> None:
    @task(timeout_seconds=LATE)
    async def body():
        raise asyncio.CancelledError

    async def main():
        return await body(return_state=True)

    state = asyncio.run(main())
    assert (state.name, state.message) == ("Crashed", "Execution was cancelled by the runtime environment.")


def test_the_hooks_of_a_run_that_timed_out_are_those_of_a_failure(recorded) -> None:
    seen = []
    task(lambda: time.sleep(LATE), timeout_seconds=SOON, on_failure=[lambda t, r, state: seen.append(state.name)])(
        return_state=True
    )
    assert seen == ["TimedOut"]


# Deadlines inside deadlines, on the one timer of the main thread.


def test_the_deadline_of_the_inner_body_leaves_the_outer_one_alone(recorded) -> None:
    @flow(timeout_seconds=LATE)
    def outer():
        return task(lambda: time.sleep(LATE), timeout_seconds=SOON)(return_state=True).name, signal.getitimer(
            signal.ITIMER_REAL
        )[0] > 1

    assert outer() == ("TimedOut", True)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize("inner_timeout", [None, LATE], ids=["none", "longer"])
@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_the_deadline_of_the_outer_body_ends_the_inner_one(recorded, inner_timeout, decorate) -> None:
    inner = decorate(lambda: time.sleep(LATE), name="inner", timeout_seconds=inner_timeout)

    @flow(timeout_seconds=SOON)
    def outer():
        inner()

    assert outer(return_state=True).message == "Flow run exceeded timeout of 0.01 second(s)"
    rows = recorded.task_runs("inner") if decorate is task else recorded.flow_runs("inner")
    assert rows[0].state_message == "Execution was interrupted since a run around it exceeded its timeout."
    assert recorded.unfinished() == []


@pytest.mark.parametrize("inner_timeout", [None, LATE], ids=["none", "longer"])
def test_the_deadline_of_the_outer_body_holds_although_the_inner_one_hands_out_its_state(
    recorded, inner_timeout
) -> None:
    inner = task(lambda: time.sleep(LATE), timeout_seconds=inner_timeout)
    reached = []

    @flow(timeout_seconds=SOON)
    def outer():
        inner(return_state=True)
        time.sleep(LATE)
        reached.append("after")

    started = time.monotonic()
    assert outer(return_state=True).name == "TimedOut"
    assert time.monotonic() - started < LATE / 2
    assert reached == []


def test_the_same_deadline_twice_ends_the_outer_one(recorded) -> None:
    inner = task(lambda: time.sleep(LATE), timeout_seconds=SOON)

    @flow(timeout_seconds=SOON / 2)
    def outer():
        inner()

    assert outer(return_state=True).message == "Flow run exceeded timeout of 0.005 second(s)"


def test_three_deep_the_middle_one_ends(recorded) -> None:
    innermost = task(lambda: time.sleep(LATE), timeout_seconds=LATE)

    @flow(timeout_seconds=SOON)
    def middle():
        innermost()

    @flow(timeout_seconds=LATE)
    def outer():
        return middle(return_state=True).name

    assert outer() == "TimedOut"


def test_an_alarm_of_the_user_is_there_again_afterwards(recorded) -> None:
    def mine(*_):
        pass

    before = signal.signal(signal.SIGALRM, mine)
    try:
        task(lambda: 1, timeout_seconds=LATE)()
        task(lambda: time.sleep(LATE), timeout_seconds=SOON)(return_state=True)
        assert signal.getsignal(signal.SIGALRM) is mine
    finally:
        signal.signal(signal.SIGALRM, before)


def test_inner_and_outer_deadlines_of_async_bodies(recorded) -> None:
    @task(timeout_seconds=LATE)
    async def inner():
        await asyncio.sleep(LATE)

    @flow(timeout_seconds=SOON)
    async def outer():
        await inner()

    async def main():
        return await outer(return_state=True)

    assert str(asyncio.run(main())) == "TimedOut('Flow run exceeded timeout of 0.01 second(s)', type=FAILED)"
    assert recorded.unfinished() == []


def test_a_flow_that_waits_for_a_task_is_interrupted_too(recorded, never) -> None:
    @flow(timeout_seconds=SOON)
    def outer():
        future = task(lambda: never.wait(LATE), on_running=[lambda *_: None]).submit()
        try:
            future.result()
        finally:
            never.set()

    assert outer(return_state=True).name == "TimedOut"
    assert recorded.unfinished() == []


def test_a_flow_that_timed_out_on_another_thread_gets_no_further_task(recorded) -> None:
    deadline_passed, refused = threading.Event(), []

    @flow(timeout_seconds=SOON, on_failure=[lambda *_: deadline_passed.set()])
    def outer():
        assert deadline_passed.wait(LATE)
        for call in (task(lambda: 1, name="t"), task(lambda: 1, name="t").submit, flow(lambda: 1, name="f")):
            try:
                value = call()
                refused.append(value if isinstance(value, int) else value.wait().name)
            except BaseException as error:
                refused.append(type(error).__name__)
        ended.set()

    ended = threading.Event()
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(outer(return_state=True).name))
    thread.start()
    thread.join(LATE)
    assert outcome == ["TimedOut"]
    assert ended.wait(LATE)
    assert refused == ["TimeoutError", "TimeoutError", "TimeoutError"]


def test_a_returned_generator_is_consumed_within_the_timeout(recorded) -> None:
    def slow():
        yield 1
        time.sleep(LATE)

    for decorate in (task, flow):
        assert decorate(lambda: slow(), timeout_seconds=SOON)(return_state=True).name == "TimedOut"


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_many_tiny_deadlines_leave_every_run_ended(recorded, decorate) -> None:
    tiny = task(lambda x: x)

    def body():
        for n in range(100_000):
            tiny(n)

    for n in range(12):
        state = decorate(body, timeout_seconds=0.002 + n * 1e-4)(return_state=True)
        assert state.name == "TimedOut"
    assert recorded.unfinished() == []
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_a_generator_must_end_within_its_timeout_too(recorded, on_thread, decorate) -> None:
    def late():
        yield 1
        # Short on a thread that nothing can interrupt, where it is noticed afterwards.
        time.sleep(LATE if threading.current_thread() is threading.main_thread() else 2 * SOON)
        yield 2

    def consume():
        seen = []
        try:
            for value in decorate(late, name="g", timeout_seconds=SOON)():
                seen.append(value)
        except TimeoutError:
            seen.append("late")
        return seen

    assert on_thread(consume) == [1, "late"]
    rows = recorded.task_runs("g") if decorate is task else recorded.flow_runs("g")
    assert rows[0].state_name == "TimedOut"


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_an_async_generator_is_cancelled_at_its_deadline(recorded, decorate) -> None:
    cleaned = []

    @decorate(name="g", timeout_seconds=SOON)
    async def late():
        try:
            yield 1
            await asyncio.sleep(LATE)
        finally:
            cleaned.append("up")

    async def consume():
        seen = []
        with pytest.raises(TimeoutError):
            async for value in late():
                seen.append(value)
        return seen

    assert asyncio.run(consume()) == [1]
    assert cleaned == ["up"]
    rows = recorded.task_runs("g") if decorate is task else recorded.flow_runs("g")
    assert rows[0].state_name == "TimedOut"


def test_a_generator_that_is_in_time_keeps_its_values(recorded, on_thread) -> None:
    assert on_thread(lambda: list(task(lambda: (yield from range(3)), timeout_seconds=LATE)())) == [0, 1, 2]
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_the_deadline_around_a_generator_interrupts_its_body(recorded) -> None:
    @task
    def late():
        yield 1
        time.sleep(LATE)

    assert flow(lambda: list(late()), timeout_seconds=SOON)(return_state=True).name == "TimedOut"
    assert recorded.unfinished() == []
