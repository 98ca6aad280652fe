"""Cancelling runs of this process: from other threads, and from their own bodies."""

from __future__ import annotations

import threading
import time
from functools import partial

import anyio
import pytest

from prefect_core import (
    acancel_flow_run,
    cancel_flow_run,
    cancel_task_run,
    flow,
    pause_flow_run,
    runtime,
    suspend_flow_run,
    task,
)
from prefect_core.control import steward
from prefect_core.control.watches import Delivery
from prefect_core.errors import CancelledRun, NotCancellable, ObjectNotFound, PausedRun
from prefect_core.history.requests import ENDED, OVER
from prefect_core.state_kinds import CANCELLED, RUNNING
from prefect_core.states import State
from tests.contract.history_runs import begin_flow_run, enter
from tests.unit.later import LONG, Later, states
from tests.unit.recorded import Recorded

FLOW_MESSAGE, TASK_MESSAGE = "Flow run was cancelled.", "Task run was cancelled."
STOPPED = "The flow run was cancelled and this run did not end within the grace period."


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def gate():
    """Hold bodies on threads until the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_a_sleeping_flow_is_interrupted_and_its_hooks_are_called(recorded, later):
    called = []

    @flow(on_cancellation=[lambda *_: called.append("cancelled")], on_failure=[lambda *_: called.append("failed")])
    def main():
        later.cancel_this_flow()
        later.sleep()

    with pytest.raises(CancelledRun, match=FLOW_MESSAGE):
        main()
    assert states(later.join()) == ["Cancelling"]
    [row] = recorded.flow_runs()
    assert recorded.states_of(row) == ["Pending", "Running", "Cancelling", "Cancelled"]
    assert row.state_message == FLOW_MESSAGE
    assert called == ["cancelled"]


def test_what_a_flow_called_directly_ends_with_it(recorded, later):
    called = []

    @task(retries=3)
    def linger():
        later.sleep()

    @flow(retries=2, on_cancellation=[lambda flow, *_: called.append(flow.name)])
    def third():
        linger()

    @flow(on_cancellation=[lambda flow, *_: called.append(flow.name)])
    def second():
        # Having the state must not stop what ends the flow around.
        third(return_state=True)
        called.append("went on")

    @flow(on_cancellation=[lambda flow, *_: called.append(flow.name)])
    def first():
        later.cancel_this_flow()
        second()

    assert first(return_state=True).is_cancelled()
    later.join()
    assert called == ["third", "second", "first"]
    assert {row.state_name for row in [*recorded.flow_runs(), *recorded.task_runs()]} == {"Cancelled"}
    assert recorded.task_states("linger") == [["Pending", "Running", "Cancelled"]]


@pytest.mark.parametrize("way", ["cleans up", "returns", "raises"])
def test_whatever_a_body_makes_of_its_end_it_is_cancelled(recorded, later, way):
    seen = []

    @flow(retries=1)
    def main():
        later.cancel_this_flow()
        try:
            later.sleep()
        except BaseException as error:
            seen.append(way)
            if way == "raises":
                raise ValueError from error
            if way == "cleans up":
                raise
        return 1

    assert main(return_state=True).is_cancelled()
    assert seen == [way]
    later.join()


def test_an_inner_flow_is_cancelled_alone_and_its_caller_goes_on(recorded, later):
    @flow
    def inner():
        later.cancel_this_flow()
        later.sleep()

    @flow
    def outer():
        with pytest.raises(CancelledRun, match=FLOW_MESSAGE):
            inner()
        return "went on"

    assert outer() == "went on"
    later.join()
    assert [row.state_name for row in recorded.flow_runs()] == ["Completed", "Cancelled"]
    # What stands for it in its parent, too.
    assert recorded.task_states("inner") == [["Pending", "Running", "Cancelling", "Cancelled"]]


def test_a_submitted_flow_on_a_thread_ends_at_its_next_call(recorded, later):
    go_on = threading.Event()

    @task
    def step():
        return 1

    @flow
    def inner():
        later.cancel_this_flow()
        later.begun.set()
        go_on.wait(LONG)
        step()

    @flow
    def outer():
        future = inner.submit()
        while not future.state.is_cancelling():
            time.sleep(0.001)
        # The bodies that it has are told next, in the order of the program of the cancelling thread.
        later.join()
        while not _refuses(future):
            time.sleep(0.001)
        go_on.set()
        return future.wait().name

    def _refuses(future):
        dispatcher = future._call_in_progress.dispatcher
        return type(dispatcher._counters) is not dict

    assert outer() == "Cancelled"
    assert recorded.task_runs("step") == []


def test_a_flow_on_a_thread_that_nothing_stops_gives_its_place_back(recorded, later, gate, caplog):
    called = []

    @flow(on_cancellation=[lambda flow, run, state: called.append(state.name)])
    def inner():
        later.cancel_this_flow(0)
        later.begun.set()
        gate.wait(LONG)

    @flow
    def outer():
        return inner.submit().wait().name

    assert outer() == "Cancelled"
    later.join()
    assert called == ["Cancelled"]
    assert "its body runs on" in caplog.text


def test_a_submitted_flow_that_waits_for_an_input_is_cancelled_at_once(recorded, gate):
    called = []

    @task
    def slow():
        gate.wait(LONG)

    @flow(on_cancellation=[lambda *_: called.append("hook")])
    def inner(_):
        raise AssertionError

    @flow
    def outer():
        waiting = slow.submit()
        future = inner.submit(waiting)
        assert cancel_flow_run(future.flow_run_id).is_cancelled()
        assert future.done()
        gate.set()
        return future.state.message

    assert outer() == FLOW_MESSAGE
    assert called == ["hook"]
    assert recorded.states_of(recorded.flow_runs("inner")[0]) == ["Pending", "Cancelled"]


def test_what_has_not_begun_never_does(recorded, later, gate):
    holds = threading.Event()

    @task
    def hold():
        holds.set()
        gate.wait(LONG)

    @flow(task_runner="concurrent:1")
    def main():
        later.cancel_this_flow(0.05)
        futures = [hold.submit() for _ in range(3)]
        holds.wait(LONG)
        later.begun.set()
        futures[0].wait()

    assert main(return_state=True).is_cancelled()
    later.join()
    assert [row.state_message for row in recorded.task_runs()] == [
        STOPPED,
        *["The flow run was cancelled before this run could start."] * 2,
    ]
    assert {row.state_name for row in recorded.task_runs()} == {"Cancelled"}


def test_a_body_that_ends_within_the_grace_keeps_its_end(recorded, later, gate):
    @task
    def finish():
        later.begun.set()
        gate.wait(LONG)

    @flow
    def main():
        later.cancel_this_flow()
        future = finish.submit()
        try:
            future.wait()
        finally:
            gate.set()

    assert main(return_state=True).is_cancelled()
    later.join()
    assert recorded.task_states("finish") == [["Pending", "Running", "Completed"]]


def test_a_flow_whose_body_has_ended_is_cancelled_while_it_waits_for_its_tasks(recorded, later):
    @task
    async def linger():
        await later.asleep()

    @flow
    def main():
        later.cancel_this_flow()
        linger.submit()

    assert main(return_state=True).is_cancelled()
    later.join()
    assert recorded.task_states("linger") == [["Pending", "Running", "Cancelled"]]


@pytest.mark.parametrize("where", ["main", "submitted"])
def test_a_flow_between_two_attempts_is_cancelled(recorded, later, where):
    @flow(retries=1, retry_delay_seconds=LONG)
    def flaky():
        later.cancel_this_flow()
        raise ValueError

    def bell(*_):
        while recorded.flow_runs("flaky")[0].state_name != "AwaitingRetry":
            time.sleep(0.001)
        later.begun.set()

    threading.Thread(target=lambda: (_until_there_is(recorded, "flaky"), bell())).start()

    @flow
    def main():
        return flaky(return_state=True).name if where == "main" else flaky.submit().wait().name

    assert main() == "Cancelled"
    later.join()
    assert recorded.states_of(recorded.flow_runs("flaky")[0]) == [
        "Pending",
        "Running",
        "AwaitingRetry",
        "Cancelling",
        "Cancelled",
    ]


def _until_there_is(recorded, name):
    while not recorded.flow_runs(name):
        time.sleep(0.001)


def test_a_generator_flow_ends_at_its_next_value(recorded, later):
    cleaned = []

    @flow
    def numbers():
        later.cancel_this_flow()
        later.begun.set()
        try:
            yield 1
            yield 2
        finally:
            cleaned.append(True)

    values = numbers()
    assert next(values) == 1
    assert states(later.join()) == ["Cancelling"]
    with pytest.raises(CancelledRun):
        next(values)
    assert cleaned == [True]
    assert recorded.flow_runs()[0].state_name == "Cancelled"


BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@BACKENDS
@pytest.mark.parametrize("way", ["sleep", "direct", "submit", "subflow", "subflow submitted", "blocking"])
def test_an_async_flow_is_cancelled_where_it_awaits(recorded, later, backend, way):
    @task
    async def linger():
        await later.asleep()

    @task
    def block():
        later.sleep()

    @flow
    async def inner():
        await linger()

    @flow
    async def main():
        later.cancel_this_flow()
        match way:
            case "sleep":
                await later.asleep()
            case "direct":
                await linger()
            case "submit":
                await linger.submit()
            case "subflow":
                await inner(return_state=True)
            case "subflow submitted":
                await inner.submit()
            case "blocking":
                block()
        raise AssertionError("went on")

    state = anyio.run(partial(main, return_state=True), backend=backend)
    assert (state.name, state.message) == ("Cancelled", FLOW_MESSAGE)
    later.join()
    assert {row.state_name for row in [*recorded.flow_runs(), *recorded.task_runs()]} == {"Cancelled"}


@BACKENDS
@pytest.mark.parametrize("way", ["call", "submit"])
def test_an_async_flow_is_cancelled_alone(recorded, later, backend, way):
    @flow
    async def inner():
        later.cancel_this_flow()
        await later.asleep()

    @flow
    async def outer():
        with pytest.raises(CancelledRun):
            await (inner() if way == "call" else inner.submit())
        await anyio.sleep(0)
        return "went on"

    assert anyio.run(outer, backend=backend) == "went on"
    later.join()


@BACKENDS
def test_an_async_flow_cancels_itself(recorded, backend):
    @flow
    async def main():
        state = await acancel_flow_run(runtime.flow_run.id)
        assert state.is_cancelling()
        await anyio.sleep(LONG)

    assert anyio.run(partial(main, return_state=True), backend=backend).is_cancelled()


def test_an_async_generator_flow_is_cancelled_where_it_awaits(recorded, later):
    @flow
    async def numbers():
        later.cancel_this_flow()
        yield 1
        await later.asleep()

    async def consume():
        return [value async for value in numbers()]

    with pytest.raises(CancelledRun):
        anyio.run(consume)
    later.join()


def test_a_flow_cancels_itself_and_its_call_returns(recorded):
    seen = []

    @flow
    def main():
        try:
            seen.append(cancel_flow_run(runtime.flow_run.id).name)
        finally:
            seen.append("interrupted")
            time.sleep(0)

    assert main(return_state=True).is_cancelled()
    assert seen[-1] == "interrupted"


@pytest.mark.parametrize("runner", ["sequential", "concurrent:1"])
def test_a_task_run_is_cancelled_while_its_flow_goes_on(recorded, later, gate, runner):
    @task(retries=3)
    def hold():
        later.cancel_this_task(0.02)
        later.begun.set()
        (time.sleep if runner == "sequential" else gate.wait)(LONG)

    @task
    def after():
        return "its place was given back"

    @flow(task_runner=runner)
    def main():
        assert hold.submit().wait().message == TASK_MESSAGE
        return after.submit().result()

    assert main() == "its place was given back"
    assert states(later.join()) == ["Cancelling"]
    assert recorded.task_states("hold") == [["Pending", "Running", "Cancelling", "Cancelled"]]


@pytest.mark.parametrize("call", ["task", "submit", "flow"])
@pytest.mark.parametrize("where", ["in a flow", "outside"])
def test_a_task_on_a_thread_ends_at_its_next_call(recorded, gate, call, where):
    begun, went_on = threading.Event(), []
    step, inner = task(lambda: 1, name="step"), flow(lambda: 1, name="inner")

    @task(retries=1)
    def body():
        begun.set()
        assert gate.wait(LONG)
        step.submit() if call == "submit" else (step if call == "task" else inner)()
        went_on.append(call)

    @flow
    def main():
        future = body.submit()
        assert begun.wait(LONG)
        assert cancel_task_run(future.task_run_id, LONG).is_cancelling()
        gate.set()
        return future.wait().message

    assert (main() if where == "in a flow" else main.fn()) == TASK_MESSAGE
    assert went_on == []
    assert recorded.task_states("body") == [["Pending", "Running", "Cancelling", "Cancelled"]]
    assert recorded.task_runs("step") == []


def test_a_direct_call_of_a_task_is_cancelled(recorded, later):
    @task(retries=2)
    def linger():
        later.cancel_this_task()
        later.sleep()

    @flow
    def main():
        with pytest.raises(CancelledRun, match=TASK_MESSAGE):
            linger()
        return 1

    assert main() == 1
    later.join()


@pytest.mark.parametrize("way", ["call", "submit"])
def test_an_async_task_is_cancelled(recorded, later, way):
    @task(retries=2)
    async def linger():
        later.cancel_this_task()
        await later.asleep()

    @flow
    async def main():
        with pytest.raises(CancelledRun, match=TASK_MESSAGE):
            await (linger() if way == "call" else linger.submit())
        return 1

    assert anyio.run(main) == 1
    later.join()


def test_a_task_run_that_waits_in_the_queue_is_cancelled_at_once(recorded, gate):
    @task
    def hold():
        gate.wait(LONG)

    @flow(task_runner="concurrent:1")
    def main():
        first, second = hold.submit(), hold.submit()
        after = hold.submit(wait_for=[second])
        assert cancel_task_run(second.task_run_id).is_cancelled()
        assert second.done()
        gate.set()
        return first.wait().name, after.wait().name

    assert main() == ("Completed", "NotReady")
    assert recorded.task_states("hold")[1] == ["Pending", "Cancelled"]


@pytest.mark.parametrize("way", ["call", "submit", "sequential"])
def test_a_task_run_that_awaits_its_retry_is_cancelled(recorded, later, way):
    @task(retries=1, retry_delay_seconds=LONG)
    def flaky():
        later.cancel_this_task()
        raise ValueError

    def bell():
        while not recorded.task_runs("flaky") or recorded.task_runs("flaky")[0].state_name != "AwaitingRetry":
            time.sleep(0.001)
        later.begun.set()

    threading.Thread(target=bell).start()

    @flow(task_runner="sequential" if way == "sequential" else "concurrent")
    def main():
        return (flaky(return_state=True) if way == "call" else flaky.submit().wait()).name

    assert main() == "Cancelled"
    later.join()
    assert recorded.task_runs("flaky")[0].run_count == 1


def test_the_task_run_that_stands_for_a_subflow_run_cancels_that(recorded, later):
    @flow
    def inner():
        later.do(lambda: cancel_task_run(recorded.task_runs("inner")[0].id))
        later.sleep()

    @flow
    def outer():
        return inner(return_state=True).name

    assert outer() == "Cancelled"
    later.join()


def test_two_who_ask_at_once_get_one_answer_each(recorded, later):
    @flow
    def main():
        later.cancel_this_flow()
        later.cancel_this_flow()
        later.sleep()

    assert main(return_state=True).is_cancelled()
    answers = later.join()
    # The second may come when the run has ended already, by the first.
    assert [one for one in answers if isinstance(one, State)]
    assert all(isinstance(one, State | NotCancellable) for one in answers)
    assert len(answers) == 2
    [row] = recorded.flow_runs()
    assert recorded.states_of(row) == ["Pending", "Running", "Cancelling", "Cancelled"]


def test_who_asks_again_may_shorten_the_grace(recorded, later, gate):
    @task
    def hold():
        later.begun.set()
        gate.wait(LONG)

    @flow
    def main():
        later.cancel_this_flow(LONG)
        run = runtime.flow_run.id

        def again():
            while recorded.flow_runs()[0].state_name != "Cancelling":
                time.sleep(0.001)
            return cancel_flow_run(run, 0.01)

        later.do(again)
        hold.submit().wait()

    assert main(return_state=True).is_cancelled()
    assert states(later.join()) == ["Cancelling", "Cancelling"]


def test_runs_that_have_ended_and_unknown_ones_are_refused(recorded):
    @task
    def one():
        return 1

    @flow
    def main():
        return one()

    main()
    [run], [child] = recorded.flow_runs(), recorded.task_runs()
    with pytest.raises(NotCancellable) as refused:
        cancel_flow_run(run.id)
    assert (
        str(refused.value)
        == f"Flow run '{run.id}' was unable to be cancelled. Reason: 'Run is already in terminal state COMPLETED.'"
    )
    with pytest.raises(NotCancellable, match=f"Task run '{child.id}' was unable to be cancelled"):
        cancel_task_run(child.id)
    assert recorded.states_of(run) == ["Pending", "Running", "Completed"]
    unknown = "a55a4804-9e3c-4042-8b59-b3b6b7618736"
    with pytest.raises(ObjectNotFound, match=f"Flow run '{unknown}' not found!"):
        cancel_flow_run(unknown)
    with pytest.raises(ObjectNotFound, match=f"Task run '{unknown}' not found!"):
        cancel_task_run(unknown)
    with pytest.raises(ValueError, match="grace_seconds"):
        cancel_flow_run(run.id, -1)


@flow
def leaving():
    suspend_flow_run()


def test_a_suspended_run_is_cancelled_at_once_though_its_process_lives_on(recorded):
    with pytest.raises(PausedRun):
        leaving()
    [run] = recorded.flow_runs()
    # An owner that does not answer by then would be killed.
    assert cancel_flow_run(run.id, 0).is_cancelled()
    assert recorded.states_of(run) == ["Pending", "Running", "Suspended", "Cancelled"]


@pytest.mark.parametrize("where", ["in the pause", "at a call"])
def test_a_flow_that_is_held_on_a_thread_is_cancelled(recorded, later, where):
    ended = []

    @flow
    def main():
        if where == "at a call":
            pause_flow_run(flow_run_id=runtime.flow_run.id)
            never_begins()
        pause_flow_run()

    @flow
    def never_begins():
        raise AssertionError

    held = threading.Thread(target=lambda: ended.append(main(return_state=True)))
    held.start()
    while [row.state_name for row in recorded.flow_runs("main")] != ["Paused"]:
        time.sleep(0.001)
    while where == "at a call" and not recorded.flow_runs("never-begins"):
        time.sleep(0.001)
    [row] = recorded.flow_runs("main")
    assert cancel_flow_run(row.id, LONG).is_cancelling()
    held.join(LONG / 2)
    assert [state.name for state in ended] == ["Cancelled"]
    assert recorded.states_of(row) == ["Pending", "Running", "Paused", "Cancelling", "Cancelled"]


def test_a_run_that_ends_by_itself_meanwhile_keeps_its_end(recorded):
    for _ in range(20):
        asked, threads, answers = threading.Event(), [], []

        @flow
        def main():
            run = runtime.flow_run.id

            def ask():
                asked.set()
                try:
                    answers.append(cancel_flow_run(run).name)
                except NotCancellable:
                    answers.append("refused")

            threads.append(threading.Thread(target=ask))
            threads[0].start()
            asked.wait(LONG)

        state = main(return_state=True)
        threads[0].join(LONG)
        if state.is_completed():
            assert answers == ["refused"]
        row = recorded.flow_runs()[-1]
        assert recorded.states_of(row)[-1] == state.name
        assert recorded.states_of(row) in (
            ["Pending", "Running", "Completed"],
            ["Pending", "Running", "Cancelling", "Cancelled"],
        )


def test_an_end_that_is_recorded_a_moment_after_it_was_told_is_awaited(recorded: Recorded) -> None:
    # The test is the process that has the run.
    run = begin_flow_run(recorded.recorder)
    enter(recorded.recorder, run, RUNNING)
    recorded.recorder.flush()

    def end() -> None:
        enter(recorded.recorder, run, CANCELLED)
        recorded.recorder.flush()

    late = threading.Timer(0.2, end)

    def deliver(delivery: Delivery) -> None:
        delivery.answer({OVER: ENDED})
        late.start()

    watch = steward.watch(run.key, deliver)
    state = cancel_flow_run(run.id, LONG)
    watch.close()
    late.join()
    assert state.type is CANCELLED
