"""Why a run has not begun: what it waits for, followed to where it has to change."""

from __future__ import annotations

import threading
from functools import partial

from prefect_core import flow, history, task
from prefect_core.cache_policies import INPUTS
from prefect_core.concurrency import concurrency, rate_limit
from prefect_core.limits.names import make, remove
from prefect_core.locking import IsolationLevel
from prefect_core.reasons import (
    Ended,
    InChunk,
    IsRunning,
    IsScheduled,
    LateBody,
    NoPlace,
    NotBegun,
    Retry,
    StandsForSubflow,
    WaitingForLimit,
    WaitingForLock,
    WaitingForRuns,
)
from prefect_core.reasons.finding import why
from prefect_core.states import Scheduled, State
from prefect_core.task_runners import ConcurrentTaskRunner
from tests.contract.history_runs import begin_flow_run, begin_task_run
from tests.contract.holding import HoldingTaskRunner
from tests.unit.reasons.conftest import PATIENCE, Stage, await_reason, until


@task
def pass_on(*values: object) -> object:
    return values


def test_who_waits_for_a_run_is_followed_to_the_one_that_waits_for_none(stage: Stage) -> None:
    hold = task(stage.hold, name="hold")

    @flow
    def chain() -> object:
        first = pass_on.submit(hold.submit())
        second = pass_on.submit(first)
        return pass_on.submit(second, first).result()

    stage.start(chain)
    assert stage.began.wait(PATIENCE)
    until("hold-0", lambda why: isinstance(why.reason, IsRunning))
    reason = await_reason("pass_on-2", WaitingForRuns)
    assert (reason.count, [one.name for one in reason.runs]) == (2, ["pass_on-1", "pass_on-0"])
    assert [one.name for one in reason.chain] == ["pass_on-1", "pass_on-0", "hold-0"]
    assert isinstance(reason.root, IsRunning)
    assert reason.root.runner == "ConcurrentTaskRunner"


def test_what_runs_is_followed_only_if_nothing_else_keeps_the_run(stage: Stage) -> None:
    hold = task(stage.hold, name="hold")

    @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    def two() -> object:
        running, queued = hold.submit(), hold.submit()
        return pass_on.submit(running, wait_for=[queued]).result()

    stage.start(two)
    reason = until(
        "pass_on-0", lambda why: isinstance(why.reason, WaitingForRuns) and isinstance(why.reason.root, NoPlace)
    ).reason
    assert isinstance(reason, WaitingForRuns)
    assert [one.name for one in reason.chain] == ["hold-1"]


def test_who_waits_for_a_limit_is_told_who_has_it_and_what_that_does(stage: Stage) -> None:
    make("tag:one", 1)
    hold = task(stage.hold, name="hold", tags=["one"])

    @flow
    def limited() -> None:
        hold.submit()
        assert stage.began.wait(PATIENCE)
        for _ in range(2):
            hold.submit()

    stage.start(limited)
    assert stage.began.wait(PATIENCE)
    until("hold-0", lambda why: isinstance(why.reason, IsRunning))
    reason = await_reason("hold-2", WaitingForLimit)
    [limit] = reason.limits
    assert (limit.name, limit.slots, limit.wanted, limit.ahead) == ("tag:one", 1, 1, 1)
    [holder] = limit.holders
    assert (holder.name, holder.slots, limit.holder_count) == ("hold-0", 1, 1)
    assert holder.process is not None
    assert [(one.id, one.name) for one in reason.chain] == [(holder.run_id, "hold-0")]
    assert isinstance(reason.root, IsRunning)


def test_of_several_limits_the_full_ones_are_told(stage: Stage) -> None:
    make("tag:one", 1)
    make("tag:many", 9)
    hold = task(stage.hold, name="hold", tags=["one", "many"])

    @flow
    def limited() -> None:
        hold.submit()
        assert stage.began.wait(PATIENCE)
        hold.submit()

    stage.start(limited)
    assert [limit.name for limit in await_reason("hold-1", WaitingForLimit).limits] == ["tag:one"]


def test_a_body_that_waits_in_a_block_waits_for_its_limit(stage: Stage) -> None:
    make("database", 1)

    @task
    def load() -> None:
        with concurrency("database"):
            pass

    @flow
    def loading() -> None:
        load.submit()

    with concurrency("database"):
        stage.start(loading)
        reason = await_reason("load-0", WaitingForLimit)
    [limit] = reason.limits
    assert (limit.name, limit.holder_count, limit.holders[0].run_id) == ("database", 1, None)
    assert reason.chain == ()


def test_a_rate_has_no_holders(stage: Stage) -> None:
    make("api", 1, 0.001)
    rate_limit("api")

    @task
    def ask() -> None:
        rate_limit("api")

    stage.start(flow(lambda: ask.submit().wait()))
    reason = await_reason("ask-0", WaitingForLimit)
    assert [(one.holders, one.decay_per_second) for one in reason.limits] == [((), 0.001)]
    remove("api")


def test_two_that_wait_for_each_other_are_followed_once_round(stage: Stage) -> None:
    make("left", 1)
    make("right", 1)
    both = threading.Barrier(2)

    @task
    def take(first: str, second: str) -> None:
        with concurrency(first):
            both.wait(PATIENCE)
            with concurrency(second, timeout_seconds=PATIENCE):
                pass

    @flow
    def crossed() -> None:
        take.submit("left", "right")
        take.submit("right", "left")

    stage.start(crossed)
    await_reason("take-1", WaitingForLimit)
    reason = await_reason("take-0", WaitingForLimit)
    assert [one.name for one in reason.chain] == ["take-1"]
    assert isinstance(reason.root, WaitingForLimit)
    assert reason.root.limits[0].holders[0].name == "take-0"
    remove("left")


def test_who_finds_no_place_in_its_runner_is_told_what_runs_there(stage: Stage) -> None:
    hold = task(stage.hold, name="hold")

    @flow(task_runner=ConcurrentTaskRunner(max_workers=2))
    def full() -> None:
        for _ in range(4):
            hold.submit()

    stage.start(full)
    why = until("hold-3", lambda why: isinstance(why.reason, NoPlace) and why.reason.running_count == 2)
    assert why.has_answered
    reason = why.reason
    assert isinstance(reason, NoPlace)
    assert (reason.runner, sorted(one.name for one in reason.running)) == ("ConcurrentTaskRunner", ["hold-0", "hold-1"])


def test_what_it_needs_of_a_place_is_told(stage: Stage) -> None:
    hold = task(stage.hold, name="hold", resources={"gpu": 1})

    @flow(task_runner=ConcurrentTaskRunner(resources={"gpu": 1}))
    def full() -> None:
        hold.submit()
        hold.submit()

    stage.start(full)
    assert await_reason("hold-1", NoPlace).resources == {"gpu": 1}


chunk_may_end = threading.Event()


@task
def waits_in_a_chunk(x: int) -> int:
    assert chunk_may_end.wait(PATIENCE)
    return x


def test_who_is_behind_others_in_a_chunk_is_told_who_is_at_it(stage: Stage) -> None:
    chunk_may_end.clear()

    @flow(task_runner=HoldingTaskRunner())
    def chunked() -> None:
        waits_in_a_chunk.map(range(4), chunk=4)

    # This runner's far end is in this process, and records there as it would in one of its own.
    ask = partial(why, stage.recorder.stored())
    stage.start(chunked)
    try:
        reason = until(
            "waits_in_a_chunk-2", lambda why: isinstance(why.reason, InChunk) and bool(why.reason.running), ask
        ).reason
        assert isinstance(reason, InChunk)
        assert reason.running is not None
        assert (reason.ahead, reason.runner, reason.running.name) == (2, "HoldingTaskRunner", "waits_in_a_chunk-0")
    finally:
        chunk_may_end.set()


def test_who_joins_another_call_with_its_cache_key_waits_for_that(stage: Stage) -> None:
    policy = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)

    @task(cache_policy=policy)
    def compute(x: int) -> int:
        stage.hold()
        return x

    @flow
    def twice() -> None:
        compute.submit(1)
        assert stage.began.wait(PATIENCE)
        compute.submit(1)

    stage.start(twice)
    reason = until(
        "compute-1", lambda why: isinstance(why.reason, WaitingForLock) and isinstance(why.reason.root, IsRunning)
    ).reason
    assert isinstance(reason, WaitingForLock)
    assert reason.holder is not None
    assert reason.holder.name == "compute-0"


def test_who_will_be_tried_again_is_told_when_and_why(stage: Stage, held_clock: None) -> None:
    @task(retries=1, retry_delay_seconds=3600)
    def flaky() -> None:
        if not stage.began.is_set():
            raise ConnectionError("no route to host")

    @flow
    def trying() -> None:
        flaky()

    stage.start(trying)
    reason = await_reason("flaky-0", Retry)
    assert 3500 < reason.seconds <= 3600
    assert (reason.attempts, reason.message) == (
        1,
        "Task run encountered an exception ConnectionError: no route to host",
    )


def test_a_flow_that_will_be_tried_again_is_told_too(stage: Stage, held_clock: None) -> None:
    @flow(retries=1, retry_delay_seconds=3600, flow_run_name="trying")
    def trying() -> None:
        if not stage.began.is_set():
            raise ConnectionError("no route to host")

    stage.start(trying)
    assert await_reason("trying", Retry).seconds > 3500


def test_who_may_not_begin_beside_its_own_late_body_waits_for_that(stage: Stage) -> None:
    @task(retries=1, timeout_seconds=0.05)
    def late() -> None:
        stage.hold()

    @flow
    def around() -> None:
        late.submit().wait()

    stage.start(around)
    await_reason("late-0", LateBody)


def test_a_run_that_nothing_is_known_of_has_not_begun(stage: Stage) -> None:
    flow_run = begin_flow_run(stage.recorder)
    stage.answers_for(flow_run)
    assert isinstance(await_reason(flow_run.name, NotBegun), NotBegun)
    begin_task_run(stage.recorder, None, "alone")
    stage.answers_for(None)
    assert until("alone-0", lambda why: isinstance(why.reason, NotBegun)).has_answered


def test_a_scheduled_run_says_when(stage: Stage) -> None:
    run = begin_flow_run(stage.recorder)
    state: State = Scheduled()
    run.state = state
    stage.recorder.entered(run, state)
    assert await_reason(run.name, IsScheduled).due == state.state_details.scheduled_time


def test_a_subflow_run_waits_for_the_inputs_that_stand_with_its_parent(stage: Stage) -> None:
    hold = task(stage.hold, name="hold")

    @flow(flow_run_name="inside")
    def inner(x: object) -> object:
        return x

    @flow
    def outer() -> None:
        inner.submit(hold.submit())

    stage.start(outer)
    reason = await_reason("inner-0", WaitingForRuns)
    assert [one.name for one in reason.runs] == ["hold-0"]
    child = history.current().stored().task_run("inner-0").child_flow_run
    assert child is not None
    flow_run = history.current().stored().flow_run(child)
    # The state of the input may have moved on meanwhile.
    inner_reason = await_reason(str(flow_run.id), WaitingForRuns)
    assert [(one.kind, one.id) for one in inner_reason.runs] == [(one.kind, one.id) for one in reason.runs]


def test_what_stands_for_a_subflow_run_is_followed_into_it(stage: Stage) -> None:
    hold = task(stage.hold, name="hold")

    @flow
    def inner() -> object:
        return hold.submit().result()

    @flow
    def outer() -> object:
        return inner()

    stage.start(outer)
    assert stage.began.wait(PATIENCE)
    reason = until(
        "inner-0", lambda why: isinstance(why.reason, StandsForSubflow) and len(why.reason.chain) == 2
    ).reason
    assert isinstance(reason, StandsForSubflow)
    assert [one.kind for one in reason.chain] == ["flow_run", "task_run"]
    assert isinstance(reason.root, IsRunning)


def test_a_refused_limit_is_no_wait(stage: Stage) -> None:
    make("tag:one", 0)
    never = task(lambda: None, name="never", tags=["one"])
    flow(lambda: never.submit().wait())(return_state=True)
    reason = await_reason("never-0", Ended)
    assert reason.message is not None
    assert reason.message.startswith('The concurrency limit on tag "one" is 0')
