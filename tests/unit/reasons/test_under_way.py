"""Why a run has not ended: it runs, is paused, or is being cancelled."""

from __future__ import annotations

import os

import pytest

import prefect_core
from prefect_core import flow, task
from prefect_core.errors import ObjectNotFound
from prefect_core.history.requests import ENDED
from prefect_core.reasons import IsCancelling, IsPaused, IsRunning, WaitingForRuns
from prefect_core.runs import Run
from prefect_core.state_kinds import CANCELLING, RUNNING
from prefect_core.states import Paused, State, Suspended
from tests.contract.history_runs import begin_flow_run, begin_task_run, enter
from tests.unit.reasons.conftest import PATIENCE, Stage, await_reason, until


def show(stage: Stage, run: Run, state: State) -> None:
    """Move a run to a state as it is."""
    run.state = state
    stage.recorder.entered(run, state)


def test_a_body_that_runs_is_told_where_and_for_how_long(stage: Stage) -> None:
    hold = task(stage.hold, name="hold")

    @flow
    def around() -> None:
        hold.submit().wait()

    stage.start(around)
    reason = await_reason("hold-0", IsRunning)
    assert reason.process is not None
    assert (reason.process.pid, reason.process.host) == (os.getpid(), os.uname().nodename)
    assert (reason.runner, reason.attempt, reason.has_returned, reason.children) == (
        "ConcurrentTaskRunner",
        1,
        False,
        {},
    )
    assert prefect_core.why("hold-0").reason.seconds > reason.seconds  # type: ignore[attr-defined]  # it runs still


def test_a_flow_run_is_followed_to_what_runs_in_it(stage: Stage) -> None:
    hold, quick = task(stage.hold, name="hold"), task(lambda: None, name="quick")

    @flow(flow_run_name="around")
    def around() -> None:
        quick()
        hold.submit()
        hold.submit().wait()

    stage.start(around)
    assert stage.began.wait(PATIENCE)
    why = until("around", lambda why: isinstance(why.reason, IsRunning) and why.reason.children.get("Running") == 2)
    reason = why.reason
    assert isinstance(reason, IsRunning)
    assert reason.children == {"Completed": 1, "Running": 2}
    assert [one.name for one in reason.chain] == ["hold-0"]
    assert isinstance(reason.root, IsRunning)
    assert why.process is not None
    assert why.process.pid == os.getpid()
    assert why.requests == ()


def test_a_flow_run_whose_body_has_ended_waits_for_what_it_started(stage: Stage) -> None:
    hold = task(stage.hold, name="hold")

    @flow(flow_run_name="around")
    def around() -> None:
        hold.submit()

    stage.start(around)
    until("around", lambda why: isinstance(why.reason, IsRunning) and why.reason.has_returned is True)


def test_a_task_run_is_followed_to_what_its_body_called(stage: Stage) -> None:
    hold = task(stage.hold, name="hold")

    @task
    def outer() -> None:
        hold()

    @flow
    def around() -> None:
        outer.submit().wait()

    stage.start(around)
    assert stage.began.wait(PATIENCE)
    reason = until("outer-0", lambda why: isinstance(why.reason, IsRunning) and why.reason.chain != ()).reason
    assert isinstance(reason, IsRunning)
    assert ([one.name for one in reason.chain], reason.children) == (["hold-0"], {"Running": 1})


def test_a_paused_run_tells_its_key_and_until_when(stage: Stage) -> None:
    run = begin_flow_run(stage.recorder)
    stage.answers_for(run)
    enter(stage.recorder, run, RUNNING)
    state = Paused(timeout_seconds=300, pause_key="approval")
    show(stage, run, state)
    reason = await_reason(run.name, IsPaused)
    assert (reason.key, reason.until) == ("approval", state.state_details.pause_timeout)
    assert (reason.run.name, reason.is_suspended) == (run.name, False)


def test_a_suspended_run_says_so(stage: Stage) -> None:
    run = begin_flow_run(stage.recorder)
    stage.answers_for(run)
    enter(stage.recorder, run, RUNNING)
    show(stage, run, Suspended())
    assert await_reason(run.name, IsPaused).is_suspended


def test_a_task_run_in_a_paused_run_is_held_by_that(stage: Stage) -> None:
    run = begin_flow_run(stage.recorder)
    stage.answers_for(run)
    enter(stage.recorder, run, RUNNING)
    held = begin_task_run(stage.recorder, run)
    behind = begin_task_run(stage.recorder, run, "behind", inputs=(("x", "task_run", held.uid),))
    show(stage, run, Paused(pause_key="a"))
    assert await_reason("load-0", IsPaused).run.id == str(run.id)
    reason = await_reason(str(behind.id), WaitingForRuns)
    assert isinstance(reason.root, IsPaused)


def test_a_run_that_is_being_cancelled_says_since_when_and_who_asked(stage: Stage) -> None:
    run = begin_flow_run(stage.recorder)
    stage.answers_for(run)
    enter(stage.recorder, run, RUNNING)
    inside = begin_task_run(stage.recorder, run)
    enter(stage.recorder, inside, RUNNING)
    stage.recorder.flush()
    control = stage.recorder.stored().control()
    request = control.ask(run.key, "cancel", {"run": run.key}, "ada@laptop, process 17")
    [asked] = until(run.name, lambda why: bool(why.requests)).requests
    assert (asked.what, asked.by) == ("cancel", "ada@laptop, process 17")
    state = enter(stage.recorder, run, CANCELLING)
    enter(stage.recorder, inside, CANCELLING)
    control.answer(request.key, {})
    why = until(run.name, lambda why: isinstance(why.reason, IsCancelling))
    reason = why.reason
    assert isinstance(reason, IsCancelling)
    assert (reason.since, reason.asked, why.requests) == (state.timestamp, asked, ())
    assert ([one.name for one in reason.chain], reason.children) == (["load-0"], {"Cancelling": 1})
    # Who asked for the run around asked for this one.
    assert await_reason("load-0", IsCancelling).asked == asked


def test_what_is_asked_of_a_task_run_lies_with_its_flow_run(stage: Stage) -> None:
    run = begin_flow_run(stage.recorder)
    stage.answers_for(run)
    enter(stage.recorder, run, RUNNING)
    one, other = begin_task_run(stage.recorder, run), begin_task_run(stage.recorder, run, "other")
    stage.recorder.flush()
    control = stage.recorder.stored().control()
    request = control.ask(run.key, "cancel", {"run": one.key}, "ada")
    assert [asked.by for asked in until(str(one.id), lambda why: bool(why.requests)).requests] == ["ada"]
    assert prefect_core.why(other.id).requests == ()
    assert prefect_core.why(run.id).requests == ()
    control.answer(request.key, {"over": ENDED})


def test_a_run_is_named_by_its_id_its_start_or_its_name(stage: Stage) -> None:
    run = begin_flow_run(stage.recorder, "calm-otter")
    stage.answers_for(run)
    inside = begin_task_run(stage.recorder, run)
    for name in (run.id, str(run.id), str(run.id)[:-1], "calm-otter"):
        assert prefect_core.why(name).run.id == str(run.id)
    for name in (inside.id, str(inside.id)[:-1], "load-0"):
        assert prefect_core.why(name).run.id == str(inside.id)


def test_a_name_that_no_run_or_more_than_one_answers_to_is_an_error(stage: Stage) -> None:
    run = begin_flow_run(stage.recorder)
    stage.answers_for(run)
    begin_task_run(stage.recorder, run)
    with pytest.raises(ObjectNotFound, match="holds no flow run or task run with id or name 'nobody'"):
        prefect_core.why("nobody")
    with pytest.raises(ObjectNotFound, match="Several runs have an id that begins with"):
        prefect_core.why(str(run.id)[:6])
    begin_task_run(stage.recorder, run, "third")
    with pytest.raises(ObjectNotFound, match="Several"):
        prefect_core.why(str(run.id)[:6])


def test_what_is_asked_of_a_subflow_run_lies_with_the_flow_run_around_it(stage: Stage) -> None:
    run = begin_flow_run(stage.recorder)
    stage.answers_for(run)
    enter(stage.recorder, run, RUNNING)
    tracking = begin_task_run(stage.recorder, run)
    enter(stage.recorder, tracking, RUNNING)
    inner = begin_flow_run(stage.recorder, "brisk-heron", parent_task_run=tracking)
    enter(stage.recorder, inner, RUNNING)
    stage.answers_for(inner)
    stage.recorder.flush()
    control = stage.recorder.stored().control()
    request = control.ask(run.key, "pause", {"run": inner.key}, "ada")
    assert [asked.by for asked in until("brisk-heron", lambda why: bool(why.requests)).requests] == ["ada"]
    assert prefect_core.why(run.id).requests == ()
    control.answer(request.key, {"over": ENDED})
