"""A flow run that ends early takes the flows inside along: what has not begun in them is cancelled at once, and nothing stays open."""

from __future__ import annotations

import threading

import pytest

from prefect_core import flow, task
from prefect_core.settings import temporary_settings
from prefect_core.waiting import Signal, block_until_done

MOMENT = 20.0


class Stage:
    """What the bodies of a test tell each other."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        self.ran: list[str] = []


@pytest.fixture
def stage():
    """Let all bodies end at the end, so that a failing test leaves no thread behind."""
    stage = Stage()
    yield stage
    stage.may_end.set()


@task
def first(stage):
    stage.has_begun.set()
    assert stage.may_end.wait(MOMENT)
    stage.ran.append("first")


@task
def queued(stage):
    stage.ran.append("queued")


@flow(task_runner="concurrent:1")
def inner(stage):
    first.submit(stage)
    futures = queued.map([stage, stage])
    # Who cancels a queued task lets the running one go on: the first does not begin a further one.
    futures[1].add_done_callback(lambda _: stage.may_end.set())
    futures.wait()


@flow
def between(stage):
    inner(stage)


@task
def in_a_task(stage):
    inner(stage, return_state=True)


CALLS = pytest.mark.parametrize(
    "call",
    [
        lambda stage: inner.submit(stage),
        lambda stage: between.submit(stage),
        lambda stage: in_a_task.submit(stage),
        lambda stage: flow(lambda: between.submit(stage).wait(), name="outer").submit(),
    ],
    ids=["submitted", "two deep", "in a task", "submitted two deep"],
)


@CALLS
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_is_queued_in_a_flow_inside_never_begins_once_the_flow_around_it_has_failed(
    recorded, stage, call, error
) -> None:
    @flow
    def around():
        call(stage)
        assert stage.has_begun.wait(MOMENT)
        raise error

    with pytest.raises(error):
        around()
    assert stage.ran == ["first"]
    assert [row.state_name for row in recorded.task_runs("queued")] == ["Cancelled", "Cancelled"]
    assert [row.state_name for row in recorded.task_runs("first")] == ["Completed"]
    assert recorded.unfinished() == []


@CALLS
def test_the_same_once_the_flow_around_it_has_timed_out(recorded, stage, call) -> None:
    @flow(timeout_seconds=0.2)
    def around():
        call(stage)
        assert stage.has_begun.wait(MOMENT)
        threading.Event().wait(MOMENT)

    assert around(return_state=True).name == "TimedOut"
    assert stage.ran == ["first"]
    assert recorded.unfinished() == []


def test_a_flow_inside_is_not_retried_once_the_flow_around_it_has_failed(recorded, stage) -> None:
    attempts = []

    @flow(retries=3)
    def again():
        attempts.append(True)
        first(stage)
        raise ValueError("once more")

    @flow
    def around():
        again.submit()
        assert stage.has_begun.wait(MOMENT)
        # The body inside goes on once nothing begins any more.
        queued.submit(stage, wait_for=[first.submit(stage)]).add_done_callback(lambda _: stage.may_end.set())
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        around()
    assert len(attempts) == 1
    assert [row.state_name for row in recorded.flow_runs("again")] == ["Failed"]
    assert recorded.unfinished() == []


def test_a_flow_inside_that_waits_for_its_retry_is_cancelled(recorded) -> None:
    is_waiting = threading.Event()

    @flow(retries=1, retry_delay_seconds=MOMENT)
    def again():
        is_waiting.set()
        raise ValueError("once more")

    @flow
    def around():
        future = again.submit()
        assert is_waiting.wait(MOMENT)
        while not future.state.is_scheduled():
            threading.Event().wait(0.001)
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        around()
    assert [row.state_name for row in recorded.flow_runs("again")] == ["Cancelled"]
    assert recorded.unfinished() == []


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
def test_what_a_body_called_directly_ends_with_the_body_when_that_is_let_go(recorded, stage, decorate) -> None:
    is_over = Signal()

    @decorate(name="lingering")
    def lingering():
        stage.has_begun.set()
        assert stage.may_end.wait(MOMENT)

    @task
    def between():
        lingering()

    @task
    def body():
        try:
            between(return_state=True)
        finally:
            is_over.fire()

    @flow
    def around():
        body.submit()
        assert stage.has_begun.wait(MOMENT)
        raise ValueError("why")

    def ends():
        return [(row.name, row.state_name) for row in [*recorded.task_runs(), *recorded.flow_runs("lingering")]]

    with temporary_settings(cancel_grace_seconds=0.01), pytest.raises(ValueError, match="why"):
        around()
    assert {state for _, state in ends()} == {"Crashed"}
    assert recorded.unfinished() == []
    before = ends()
    stage.may_end.set()
    assert block_until_done([is_over], MOMENT)
    assert ends() == before
