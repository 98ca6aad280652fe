"""How runs ended, and which run in them, or before them, is the one to look at."""

from __future__ import annotations

import os

import pytest

from prefect_core import flow, task
from prefect_core.history.owed import KEEPS_CRASHING, MOST_LOSSES, left_alone_message
from prefect_core.history.requests import LOST
from prefect_core.reasons import Ended, ProcessLost, UpstreamFailed
from prefect_core.state_kinds import CANCELLED, CRASHED, RUNNING
from prefect_core.task_runners import SequentialTaskRunner
from tests.contract.history_runs import begin_flow_run, begin_task_run, enter
from tests.unit.reasons.conftest import Stage, await_reason


@task
def fail(reason: str = "no route to host", *_: object) -> None:
    raise ConnectionError(reason)


@task
def pass_on(x: object) -> object:
    return x


@flow(flow_run_name="inside")
def inner() -> None:
    fail()


def test_a_run_that_completed_says_when_and_after_how_long(stage: Stage) -> None:
    flow(lambda: pass_on(1), flow_run_name="good")()
    for name in ("good", "pass_on-0"):
        reason = await_reason(name, Ended)
        assert (reason.attempts, reason.message, reason.first_failure, reason.asked) == (1, None, None, None)
        assert reason.seconds is not None


def test_a_flow_run_that_failed_names_the_first_failure_down_in_it(stage: Stage) -> None:
    @flow(flow_run_name="outer")
    def outer() -> None:
        pass_on(1)
        inner(return_state=True)
        fail("later", return_state=True)
        raise ValueError("too much")

    outer(return_state=True)
    reason = await_reason("outer", Ended)
    assert reason.message == "Flow run encountered an exception: ValueError: too much"
    assert reason.first_failure is not None
    assert reason.first_failure.run.name == "fail-0"
    assert reason.first_failure.message == "Task run encountered an exception ConnectionError: no route to host"
    # And so does what stands for the subflow run.
    tracking = await_reason("inner-0", Ended)
    assert tracking.first_failure == reason.first_failure


def test_a_flow_run_that_completed_names_a_failure_that_it_lived_with(stage: Stage) -> None:
    @flow(flow_run_name="bold")
    def bold() -> int:
        fail(return_state=True)
        return 1

    assert bold() == 1
    reason = await_reason("bold", Ended)
    assert reason.first_failure is not None
    assert reason.first_failure.run.state == "Failed"


def test_attempts_are_counted(stage: Stage) -> None:
    task(fail.fn, name="again", retries=2)(return_state=True)
    assert await_reason("again-0", Ended).attempts == 3


def test_who_got_no_input_is_told_whose_failure_it_goes_back_to(stage: Stage) -> None:
    @flow(task_runner=SequentialTaskRunner())
    def chain() -> None:
        first = fail.submit()
        second = pass_on.submit(first)
        pass_on.submit(second).wait()

    chain(return_state=True)
    near = await_reason("pass_on-0", UpstreamFailed)
    assert near.upstream is not None
    assert near.failure is not None
    assert near.upstream.id == near.failure.run.id
    far = await_reason("pass_on-1", UpstreamFailed)
    assert far.upstream is not None
    assert (far.upstream.name, far.failure) == ("pass_on-0", near.failure)
    assert near.failure.message == "Task run encountered an exception ConnectionError: no route to host"


def test_an_input_that_was_a_subflow_run_is_followed_into_it(stage: Stage) -> None:
    @flow
    def chain() -> None:
        pass_on.submit(inner.submit()).wait()

    chain(return_state=True)
    reason = await_reason("pass_on-0", UpstreamFailed)
    assert reason.upstream is not None
    assert reason.failure is not None
    assert (reason.upstream.name, reason.failure.run.name) == ("inner-0", "fail-0")


def test_an_input_that_was_deleted_is_not_made_up(stage: Stage) -> None:
    @flow
    def gone() -> object:
        return fail(return_state=True)

    state = gone(return_state=True)
    stage.recorder.flush()
    store = stage.recorder.stored()

    @flow
    def chain() -> None:
        pass_on.submit(state).wait()

    chain(return_state=True)
    stage.recorder.flush()
    assert store.delete_flow_run(store.flow_runs()[-1].key) == 2
    assert await_reason("pass_on-0", UpstreamFailed) == UpstreamFailed(None, None)


def test_a_cancelled_run_says_who_asked(stage: Stage) -> None:
    run = begin_flow_run(stage.recorder)
    enter(stage.recorder, run, RUNNING)
    inside = begin_task_run(stage.recorder, run)
    stage.recorder.flush()
    control = stage.recorder.stored().control()
    control.answer(control.ask(run.key, "cancel", {}, "ada@laptop").key, {})
    enter(stage.recorder, inside, CANCELLED, message="Cancelled with its flow run.")
    enter(stage.recorder, run, CANCELLED)
    for one in (run, inside):
        reason = await_reason(str(one.id), Ended)
        assert reason.asked is not None
        assert reason.asked.by == "ada@laptop"
        assert reason.first_failure is None


@pytest.mark.parametrize(
    ("state", "message", "is_left_alone"),
    [(None, LOST, False), (KEEPS_CRASHING, left_alone_message(MOST_LOSSES), True)],
)
def test_a_run_that_lost_its_process_names_it_also_if_it_keeps_doing_so(
    stage: Stage, state: str | None, message: str, is_left_alone: bool
) -> None:
    run = begin_flow_run(stage.recorder)
    enter(stage.recorder, run, RUNNING)
    enter(stage.recorder, run, CRASHED, state, message)
    stage.recorder.flush()
    reason = await_reason(str(run.id), ProcessLost)
    assert reason.process is not None
    assert reason.process.pid == os.getpid()
    assert reason.last_heard is not None
    assert reason.is_left_alone is is_left_alone
