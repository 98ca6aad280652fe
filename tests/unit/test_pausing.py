"""Pausing and resuming within one process: what begins, what waits, what is raised, and what the history says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from queue import Queue
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, Field

from prefect_core import (
    context,
    flow,
    history,
    pause_flow_run,
    recovering,
    resume_flow_run,
    resuming,
    runtime,
    suspend_flow_run,
    task,
)
from prefect_core.control.reaping import reap
from prefect_core.engine.dispatcher import _Refusing
from prefect_core.engine.transitions import RunIsOver
from prefect_core.errors import FlowPauseTimeout, NotPausedError, NotRunnableAgain, PausedRun
from prefect_core.input import InvalidInput, RunInput, keyset_from_paused_state
from prefect_core.state_kinds import CANCELLING
from prefect_core.states import State
from prefect_core.task_runners import ConcurrentTaskRunner
from tests.unit.recorded import Recorded

LONG_SECONDS = 60.0


@task
def add(x, y=1):
    return x + y


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[Queue[Any]]:
    """Do work on a thread for the length of the block; the queue gets what it returns or raises."""
    ended: Queue[Any] = Queue()

    def carry_out() -> None:
        try:
            ended.put(work())
        except BaseException as error:
            ended.put(error)

    thread = threading.Thread(target=carry_out)
    thread.start()
    yield ended
    thread.join(LONG_SECONDS)
    assert not thread.is_alive()


def paused(recorded: Recorded, flow_name: str) -> str:
    """Wait until a flow run is paused, and return its id."""
    deadline = time.monotonic() + LONG_SECONDS
    while time.monotonic() < deadline:
        rows = recorded.flow_runs(flow_name)
        pauses = recorded.store.control().pauses(rows[-1].key) if rows else []
        if rows and rows[-1].state_type == "PAUSED" and pauses and pauses[-1].is_open:
            return str(rows[-1].id)
        threading.Event().wait(0.005)
    raise AssertionError("nothing was paused")


@flow
def pausing(timeout=600, key=None, wait_for_input=None):
    before = add(1)
    given = pause_flow_run(timeout=timeout, key=key, wait_for_input=wait_for_input)
    return before, given, add(before)


def test_a_flow_waits_until_it_is_resumed(recorded: Recorded) -> None:
    with beside(pausing) as ended:
        run = paused(recorded, "pausing")
        assert ended.empty()
        resume_flow_run(run)
        assert ended.get(timeout=LONG_SECONDS) == (2, None, 3)
    [row] = recorded.flow_runs()
    assert recorded.states_of(row) == ["Pending", "Running", "Paused", "Running", "Completed"]
    assert row.run_count == 1
    assert recorded.task_states("add") == [["Pending", "Running", "Completed"]] * 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_flow_awaits_it(recorded: Recorded, backend: str) -> None:
    went_on = threading.Event()

    @flow
    async def awaiting():
        async def meanwhile():
            await anyio.sleep(0)
            went_on.set()

        async with anyio.create_task_group() as group:
            group.start_soon(meanwhile)
            await pause_flow_run()
        return add(1)

    with beside(lambda: anyio.run(awaiting, backend=backend)) as ended:
        run = paused(recorded, "awaiting")
        assert went_on.wait(LONG_SECONDS)
        resume_flow_run(run)
        assert ended.get(timeout=LONG_SECONDS) == 2


def test_an_async_flow_that_is_cancelled_while_it_is_paused_crashes(recorded: Recorded) -> None:
    @flow
    async def awaiting():
        await pause_flow_run()

    async def main():
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(awaiting)
                while not any(row.state_type == "PAUSED" for row in recorded.flow_runs()):
                    await anyio.sleep(0.005)
                scope.cancel()

    anyio.run(main)
    [row] = recorded.flow_runs()
    assert recorded.states_of(row) == ["Pending", "Running", "Paused", "Running", "Crashed"]


def test_a_body_may_give_a_pause_up(recorded: Recorded) -> None:
    @flow
    async def impatient():
        with anyio.move_on_after(0.01):
            await pause_flow_run()
        return add(1)

    assert anyio.run(impatient) == 2


def test_pauses_at_once_come_one_after_the_other(recorded: Recorded) -> None:
    @flow
    async def both():
        async with anyio.create_task_group() as group:
            group.start_soon(partial(pause_flow_run, key="a"))
            group.start_soon(partial(pause_flow_run, key="b"))

    with beside(lambda: anyio.run(both)) as ended:
        keys = []
        for _ in range(2):
            run = paused(recorded, "both")
            keys.append(recorded.store.control().pauses(recorded.flow_runs()[0].key)[-1].key)
            resume_flow_run(run)
        assert ended.get(timeout=LONG_SECONDS) is None
    assert sorted(keys) == ["a", "b"]


def test_a_body_that_comes_to_a_pause_while_it_is_held_pauses_after_that(recorded: Recorded) -> None:
    inside, go_on = threading.Event(), threading.Event()

    @flow
    def twice():
        inside.set()
        assert go_on.wait(LONG_SECONDS)
        return pause_flow_run(key="own", wait_for_input=int)

    with beside(twice) as ended:
        assert inside.wait(LONG_SECONDS)
        [row] = recorded.flow_runs()
        pause_flow_run(flow_run_id=row.id, key="theirs")
        go_on.set()
        resume_flow_run(row.id)
        while recorded.store.control().pauses(row.key)[-1].key != "own":
            paused(recorded, "twice")
        resume_flow_run(row.id, {"value": 3})
        assert ended.get(timeout=LONG_SECONDS) == 3


def test_a_flow_that_waits_inside_a_suspended_one_is_cancelled(recorded: Recorded) -> None:
    with beside(lambda: around_waiting(return_state=True)) as ended:
        paused(recorded, "waiting-inside")
        [row] = recorded.flow_runs("around-waiting")
        pause_flow_run(flow_run_id=row.id, reschedule=True)
        assert ended.get(timeout=LONG_SECONDS).name == "Paused"
    [child] = recorded.flow_runs("waiting-inside")
    assert recorded.states_of(child) == ["Pending", "Running", "Paused", "Cancelled"]


@flow
def waiting_inside():
    pause_flow_run()


@flow
def around_waiting():
    waiting_inside()


def test_nobody_resumes_it_in_time(recorded: Recorded) -> None:
    with pytest.raises(FlowPauseTimeout, match=r"^Flow run was paused and never resumed\.$"):
        pausing(timeout=0.01)
    [row] = recorded.flow_runs()
    assert recorded.states_of(row) == ["Pending", "Running", "Paused", "Running", "Failed"]
    assert (
        row.state_message
        == "Flow run encountered an exception: FlowPauseTimeout: Flow run was paused and never resumed."
    )


def test_a_flow_may_go_on_without_a_resume(recorded: Recorded) -> None:
    @flow
    def patient():
        try:
            pause_flow_run(timeout=0.01)
        except FlowPauseTimeout:
            return add(1)

    assert patient() == 2


def test_no_body_begins_between_pause_and_resume(recorded: Recorded) -> None:
    release, begun = threading.Event(), Queue()

    @task
    def slow(number):
        begun.put(number)
        assert release.wait(LONG_SECONDS)
        return number

    @flow(task_runner=ConcurrentTaskRunner(max_workers=2))
    def busy():
        futures = slow.map(range(20))
        for _ in range(2):
            begun.get(timeout=LONG_SECONDS)
        pause_flow_run()
        return sorted(futures.result())

    with beside(busy) as ended:
        run = paused(recorded, "busy")
        release.set()
        # The two that ran end, and free their threads for others to look at the gate.
        while sum(row.state_type == "COMPLETED" for row in recorded.task_runs("slow")) < 2:
            threading.Event().wait(0.005)
        assert begun.empty()
        resume_flow_run(run)
        assert ended.get(timeout=LONG_SECONDS) == list(range(20))
    [row] = recorded.flow_runs()
    paused_us, resumed_us = (one.timestamp_us for one in recorded.store.states(row.key) if one.seq in {2, 3})
    starts = [one.started_us for one in recorded.task_runs("slow")]
    assert not [start for start in starts if start is not None and paused_us < start < resumed_us]
    assert all(len(states) == 3 for states in recorded.task_states("slow"))


@pytest.mark.parametrize("runner", ["sequential", "concurrent", "concurrent:1"])
def test_a_run_that_others_pause_waits_at_its_next_call(recorded: Recorded, runner: str) -> None:
    inside, go_on = threading.Event(), threading.Event()

    @flow(task_runner=runner)
    def long_running():
        first = add(1)
        inside.set()
        assert go_on.wait(LONG_SECONDS)
        return first, add(2), add.submit(3).result()

    with beside(long_running) as ended:
        assert inside.wait(LONG_SECONDS)
        [row] = recorded.flow_runs()
        pause_flow_run(flow_run_id=row.id)
        assert recorded.states_of(row)[-1] == "Paused"
        with pytest.raises(RuntimeError, match="Cannot pause flows that are not currently running"):
            pause_flow_run(flow_run_id=row.id)
        go_on.set()
        while len(recorded.task_runs("add")) < 2:
            threading.Event().wait(0.005)
        assert ended.empty()
        assert len([one for one in recorded.task_runs("add") if one.started_us]) == 1
        resume_flow_run(row.id)
        assert ended.get(timeout=LONG_SECONDS) == (2, 3, 4)


def test_a_run_can_be_paused_as_soon_as_its_body_runs(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    # As another process sees it, which writes nothing of this one's.
    monkeypatch.setattr(history, "reading", lambda: nullcontext(recorded.store))

    class Slow(ConcurrentTaskRunner):
        def start(self, host: Any) -> None:
            recorded.recorder.flush()
            super().start(host)

    inside, go_on = threading.Event(), threading.Event()

    @flow(task_runner=Slow())
    def just_begun():
        inside.set()
        assert go_on.wait(LONG_SECONDS)
        return add(1)

    with beside(just_begun) as ended:
        assert inside.wait(LONG_SECONDS)
        # For some moments the history has the run as Pending.
        [row] = recorded.store.flow_runs()
        pause_flow_run(flow_run_id=row.id)
        assert recorded.states_of(row) == ["Pending", "Running", "Paused"]
        go_on.set()
        resume_flow_run(row.id)
        assert ended.get(timeout=LONG_SECONDS) == 2


def test_a_run_whose_body_has_not_begun_is_not_paused(recorded: Recorded) -> None:
    go_on = threading.Event()

    @task
    def first():
        assert go_on.wait(LONG_SECONDS)

    @flow
    def second():
        pass

    @flow
    def around():
        second(wait_for=[first.submit()])

    with beside(around) as ended:
        while len(rows := recorded.flow_runs("second")) < 1:
            threading.Event().wait(0.005)
        with pytest.raises(RuntimeError, match="Cannot pause flows that are not currently running"):
            pause_flow_run(flow_run_id=rows[0].id)
        go_on.set()
        assert ended.get(timeout=LONG_SECONDS) is None


def test_a_run_that_is_held_does_not_end(recorded: Recorded) -> None:
    inside, go_on = threading.Event(), threading.Event()

    @flow
    def last_moment():
        inside.set()
        assert go_on.wait(LONG_SECONDS)
        return "value"

    with beside(last_moment) as ended:
        assert inside.wait(LONG_SECONDS)
        [row] = recorded.flow_runs()
        pause_flow_run(flow_run_id=row.id)
        go_on.set()
        threading.Event().wait(0.05)
        assert ended.empty()
        resume_flow_run(row.id)
        assert ended.get(timeout=LONG_SECONDS) == "value"


def test_a_run_that_is_held_and_never_resumed_fails_at_its_next_call(recorded: Recorded) -> None:
    inside, go_on = threading.Event(), threading.Event()

    @flow
    def forgotten():
        inside.set()
        assert go_on.wait(LONG_SECONDS)
        return add(1)

    with beside(forgotten) as ended:
        assert inside.wait(LONG_SECONDS)
        [row] = recorded.flow_runs()
        pause_flow_run(flow_run_id=row.id, timeout=0.01)
        go_on.set()
        assert isinstance(ended.get(timeout=LONG_SECONDS), FlowPauseTimeout)
    assert recorded.states_of(row)[-1] == "Failed"
    assert recorded.unfinished() == []


def test_a_pause_of_a_flow_holds_the_flows_inside(recorded: Recorded) -> None:
    inside, go_on = threading.Event(), threading.Event()

    @flow
    def child():
        inside.set()
        assert go_on.wait(LONG_SECONDS)
        return add(1)

    @flow
    def parent():
        return child()

    with beside(parent) as ended:
        assert inside.wait(LONG_SECONDS)
        [row] = recorded.flow_runs("parent")
        pause_flow_run(flow_run_id=row.id)
        go_on.set()
        while not recorded.task_runs("add"):
            threading.Event().wait(0.005)
        assert ended.empty()
        assert recorded.task_runs("add")[0].started_us is None
        resume_flow_run(row.id)
        assert ended.get(timeout=LONG_SECONDS) == 2


def test_a_subflow_pauses_itself_alone(recorded: Recorded) -> None:
    @flow
    def child():
        pause_flow_run()
        return add(1)

    @flow
    def parent():
        future = child.submit()
        there = add(5)
        return there, future.result()

    with beside(parent) as ended:
        run = paused(recorded, "child")
        [row] = recorded.flow_runs("parent")
        assert row.state_type == "RUNNING"
        assert recorded.task_states("child")[0][-1] == "Paused"
        resume_flow_run(run)
        assert ended.get(timeout=LONG_SECONDS) == (6, 2)
    assert recorded.task_states("child") == [["Pending", "Running", "Paused", "Running", "Completed"]]


def test_a_retry_in_the_process_pauses_again(recorded: Recorded) -> None:
    failures = iter([True, False])

    @flow(retries=1)
    def twice():
        pause_flow_run(key="once")
        if next(failures):
            raise ValueError("first")
        return "second"

    with beside(twice) as ended:
        resume_flow_run(paused(recorded, "twice"))
        while len([name for name in recorded.states_of(recorded.flow_runs()[0]) if name == "Paused"]) < 2:
            threading.Event().wait(0.005)
        resume_flow_run(paused(recorded, "twice"))
        assert ended.get(timeout=LONG_SECONDS) == "second"
    rows = recorded.store.control().pauses(recorded.flow_runs()[0].key)
    assert [(row.key, row.is_forgotten, row.resumed_us is not None) for row in rows] == [
        ("once", 1, True),
        ("once", 0, True),
    ]


def test_a_key_fires_once(recorded: Recorded) -> None:
    @flow
    def keyed():
        return pause_flow_run(key="a", wait_for_input=int), pause_flow_run(key="a", wait_for_input=int)

    with beside(keyed) as ended:
        resume_flow_run(paused(recorded, "keyed"), {"value": 7})
        assert ended.get(timeout=LONG_SECONDS) == (7, 7)


class Approval(RunInput):
    approved: bool
    remarks: str = "none"


class Limits(BaseModel):
    most: int = Field(gt=0)


@pytest.mark.parametrize(
    ("wanted", "given", "value"),
    [
        (Approval, {"approved": True}, Approval(approved=True)),
        (Approval, Approval(approved=False, remarks="no"), Approval(approved=False, remarks="no")),
        (
            Approval.with_initial_data(remarks="as usual"),
            {"approved": True},
            Approval(approved=True, remarks="as usual"),
        ),
        (Limits, {"most": 3}, Limits(most=3)),
        (int, {"value": 3}, 3),
        (list[str], {"value": ["a"]}, ["a"]),
    ],
)
def test_a_pause_waits_for_input(recorded: Recorded, wanted: Any, given: Any, value: Any) -> None:
    with beside(lambda: pausing(wait_for_input=wanted)) as ended:
        resume_flow_run(paused(recorded, "pausing"), given)
        before, got, after = ended.get(timeout=LONG_SECONDS)
    assert (before, after) == (2, 3)
    assert got == value or (isinstance(got, Approval) and got.model_dump() == value.model_dump())


@pytest.mark.parametrize(
    ("wanted", "given", "problem"),
    [
        (Approval, None, "approved: Field required"),
        (Approval, {"approved": "perhaps"}, "approved: Input should be a valid boolean"),
        (Approval, {"approved": True, "more": 1}, "more: Extra inputs are not permitted"),
        (Limits, {"most": 0}, "most: Input should be greater than 0"),
        (int, {"value": "x"}, "value: Input should be a valid integer"),
        (None, {"value": 1}, "waits for no input"),
    ],
)
def test_a_wrong_input_is_refused_and_the_run_stays_paused(
    recorded: Recorded, wanted: Any, given: Any, problem: str
) -> None:
    with beside(lambda: pausing(wait_for_input=wanted)) as ended:
        run = paused(recorded, "pausing")
        with pytest.raises(InvalidInput, match=f"Reason: .*{problem}"):
            resume_flow_run(run, given)
        assert recorded.flow_runs()[0].state_type == "PAUSED"
        right = {Approval: {"approved": True}, Limits: {"most": 1}, int: {"value": 1}, None: None}[wanted]
        resume_flow_run(run, right)
        assert not isinstance(ended.get(timeout=LONG_SECONDS), BaseException)


def test_a_form_can_be_asked_for(recorded: Recorded) -> None:
    states = []

    @flow
    def asking():
        try:
            pause_flow_run(key="go", wait_for_input=Approval.with_initial_data(description="Go on?"), timeout=0.01)
        except FlowPauseTimeout:
            states.append("late")

    asking()
    [row] = recorded.store.control().pauses(recorded.flow_runs()[0].key)
    assert row.form is not None
    assert '"description": "Go on?"' in row.form
    details = next(one.details for one in recorded.store.states(row.run) if one.name == "Paused")
    assert details["run_input_keyset"] == {
        "description": "paused-go-description",
        "response": "paused-go-response",
        "schema": "paused-go-schema",
    }
    assert states == ["late"]


def test_a_form_has_no_default_for_a_field_that_it_lacks() -> None:
    with pytest.raises(TypeError, match=r"Approval has no field 'remark'\."):
        Approval.with_initial_data(remark="?")


def test_where_nothing_can_be_paused() -> None:
    @task
    def pausing_task():
        pause_flow_run()

    @task
    def suspending_task():
        suspend_flow_run()

    with pytest.raises(RuntimeError, match=r"^Flow runs can only be paused from within a flow run\.$"):
        pause_flow_run()
    with pytest.raises(RuntimeError, match=r"^Flow runs can only be suspended from within a flow run\.$"):
        suspend_flow_run()
    with pytest.raises(RuntimeError, match=r"^Cannot pause task runs\.$"):
        pausing_task()
    with pytest.raises(RuntimeError, match=r"^Cannot suspend task runs\.$"):
        suspending_task()
    with pytest.raises(ValueError, match="'timeout' must be a non-negative number"):
        pause_flow_run(timeout=-1)
    with pytest.raises(RuntimeError, match="Cannot wait for input when pausing out of process"):
        pause_flow_run(flow_run_id="1", wait_for_input=int)


@pytest.mark.parametrize(
    ("suspend", "message"),
    [
        (lambda: pause_flow_run(reschedule=True), "Flow run cannot be paused: Cannot pause {}."),
        (suspend_flow_run, "Flow run cannot be suspended: Cannot suspend {}."),
    ],
    ids=["pause", "suspend"],
)
def test_what_can_not_be_suspended(recorded: Recorded, suspend: Callable[[], object], message: str) -> None:
    @flow
    def local():
        suspend()

    @flow
    def around():
        local()

    with pytest.raises(RuntimeError) as nowhere:
        local()
    assert str(nowhere.value) == message.format("flows without a deployment")
    with pytest.raises(RuntimeError) as inside:
        around()
    assert str(inside.value) == message.format("subflows")


@task(persist_result=True)
def stored(x):
    return x


@flow
def suspending(key="s"):
    value = stored.submit(1)
    pause_flow_run(reschedule=True, key=key)
    return value.result()


def test_a_suspended_flow_ends_paused_after_what_it_submitted(recorded: Recorded) -> None:
    with pytest.raises(PausedRun, match=r"^Run is paused, its result is not available\.$") as raised:
        suspending()
    assert raised.value.state.is_paused()
    state = suspending(return_state=True)
    assert state.name == "Paused"
    assert (state.state_details.pause_reschedule, state.state_details.pause_key) == (True, "s")
    assert keyset_from_paused_state(state)["schema"] == "suspended-s-schema"
    assert recorded.task_states("stored") == [["Pending", "Running", "Completed"]] * 2
    [row, _] = recorded.flow_runs()
    assert recorded.states_of(row) == ["Pending", "Running", "Paused"]
    [pause] = recorded.store.control().pauses(row.key)
    assert pause.is_suspended
    assert pause.left_us is not None


@task
def linger(inside, go_on):
    inside.set()
    assert go_on.wait(LONG_SECONDS)
    return "ended"


def test_a_run_that_others_suspend_unwinds_and_lets_bodies_end(recorded: Recorded) -> None:
    inside, go_on, log = threading.Event(), threading.Event(), []
    # Only a flow that another process finds can be suspended, and its parameters are those that JSON holds.
    flow_here = suspended_here.with_options(task_runner="concurrent:1")
    SHARED[:] = [inside, go_on, log]
    with beside(lambda: flow_here(return_state=True)) as ended:
        assert inside.wait(LONG_SECONDS)
        [row] = recorded.flow_runs("suspended-here")
        suspend_flow_run(flow_run_id=row.id)
        assert recorded.states_of(row)[-1] == "Suspended"
        SHARED[2].append("paused")
        PAUSED.set()
        while "unwound" not in log:
            threading.Event().wait(0.005)
        assert ended.empty()
        go_on.set()
        assert ended.get(timeout=LONG_SECONDS).name == "Suspended"
    assert log == ["paused", "unwound"]
    assert recorded.task_states("linger") == [["Pending", "Running", "Completed"], ["Pending", "Cancelled"]]
    assert recorded.task_states("add") == [["Pending", "Cancelled"]]
    assert recorded.unfinished() == []
    PAUSED.clear()


SHARED: list[Any] = []
PAUSED = threading.Event()


@flow
def suspended_here():
    inside, go_on, log = SHARED
    linger.submit(inside, go_on)
    assert inside.wait(LONG_SECONDS)
    linger.submit(inside, go_on)
    assert PAUSED.wait(LONG_SECONDS)
    try:
        add(1)
        log.append("went on")
    finally:
        log.append("unwound")


def test_a_flow_inside_a_suspended_one_is_cancelled(recorded: Recorded) -> None:
    inside, go_on = threading.Event(), threading.Event()
    SHARED[:] = [inside, go_on]
    with beside(lambda: around_held(return_state=True)) as ended:
        assert inside.wait(LONG_SECONDS)
        [row] = recorded.flow_runs("around-held")
        pause_flow_run(flow_run_id=row.id, reschedule=True)
        go_on.set()
        assert ended.get(timeout=LONG_SECONDS).name == "Paused"
    [child] = recorded.flow_runs("held-inside")
    assert recorded.states_of(child)[-1] == "Cancelled"
    assert recorded.unfinished() == []


@flow
def held_inside():
    SHARED[0].set()
    assert SHARED[1].wait(LONG_SECONDS)
    return add(1)


@flow
def around_held():
    return held_inside()


def test_what_is_not_paused_is_not_resumed(recorded: Recorded) -> None:
    @flow
    def done():
        return runtime.flow_run.id

    with pytest.raises(NotPausedError, match=r"^Cannot resume a run that isn't paused!$"):
        resume_flow_run(done())


@flow
def suspended_alone():
    suspend_flow_run()


@flow(on_crash="resume")
def crashing_here():
    raise SystemExit


NOWHERE = "A history in memory ends with its process, so no other can run its runs again."


def test_a_suspended_run_of_a_history_in_memory_goes_on_nowhere_and_says_so(recorded: Recorded) -> None:
    assert suspended_alone(return_state=True).is_paused()
    [row] = recorded.flow_runs()
    with pytest.raises(NotRunnableAgain, match=f"^{NOWHERE}$"):
        resume_flow_run(row.id)
    # Nor by the command, in this process.
    with pytest.raises(NotRunnableAgain, match=f"^{NOWHERE}$"):
        resuming.prepared(resuming.Found(recorded.store, row.key), None)
    assert recorded.flow_runs()[0].state_name == "Suspended"


def test_nor_is_a_crashed_one_recovered_there(recorded: Recorded) -> None:
    with suppress(SystemExit):
        crashing_here()
    [one] = recovering.recover().runs
    assert (one.row.state_type, one.what, one.reason) == ("CRASHED", recovering.IMPOSSIBLE, NOWHERE)


def test_a_suspended_run_that_nobody_resumes_in_time_is_failed_by_whoever_looks(recorded: Recorded) -> None:
    at_once = brief_here(return_state=True)
    assert at_once.is_paused()
    [row] = recorded.flow_runs()
    while not reap(recorded.store.control()):
        threading.Event().wait(0.005)
    assert recorded.states_of(row)[-1] == "Failed"
    assert recorded.flow_runs()[0].state_message == "The flow was paused and never resumed."
    with pytest.raises(FlowPauseTimeout, match=r"^Flow run can no longer be resumed\.$"):
        resume_flow_run(row.id)


@flow
def brief_here():
    pause_flow_run(reschedule=True, timeout=0)


inside_watched: Queue[Any] = Queue()


@flow
def watched():
    inside_watched.put(context.current().pausing)
    suspend_flow_run()


def test_a_run_that_was_left_is_not_moved_by_the_process_that_left_it(recorded: Recorded) -> None:
    state = watched(return_state=True)
    pausing_there = inside_watched.get_nowait()
    [row] = recorded.flow_runs("watched")
    assert recorded.store.control().pauses(row.key)[-1].is_left
    with pytest.raises(RunIsOver):
        pausing_there.enter_unless_left(State(CANCELLING))
    assert state.name == "Suspended"
    assert recorded.states_of(row) == ["Pending", "Running", "Suspended"]


def test_a_run_that_is_cancelled_before_it_was_left_is_not_left(recorded: Recorded) -> None:
    watched(return_state=True)
    pausing_there = inside_watched.get_nowait()
    run = pausing_there.context.flow_run
    with pytest.raises(RunIsOver):
        # Of the state that it had before.
        pausing_there.left(State(run.state.type))


def await_late(around: Any) -> None:
    """Wait until the flow that a body is in has gone on without it."""
    give_up = time.monotonic() + LONG_SECONDS
    while not isinstance(around.dispatcher._counters, _Refusing):
        assert time.monotonic() < give_up
        time.sleep(0.002)


@pytest.mark.parametrize("is_suspended", [False, True])
def test_a_body_that_goes_on_behind_its_time_limit_pauses_nothing(recorded: Recorded, is_suspended: bool) -> None:
    refusals = []

    @flow(timeout_seconds=0.05, retries=1)
    def late() -> None:
        if refusals:
            return
        await_late(context.current())
        try:
            pause_flow_run(LONG_SECONDS, reschedule=is_suspended)
        except Exception as refusal:
            refusals.append(refusal)
            raise

    late.fn.__qualname__ = "late"
    with beside(partial(late, return_state=True)) as ended:
        assert ended.get(timeout=LONG_SECONDS).is_completed()
    assert type(refusals[0]) is TimeoutError
    assert recorded.states_of(recorded.flow_runs()[0]) == [
        "Pending",
        "Running",
        "AwaitingRetry",
        "Running",
        "Completed",
    ]


def test_a_body_that_is_about_to_suspend_its_run_at_its_time_limit_ends_before_the_retry(recorded: Recorded) -> None:
    tries, begun, release = [], threading.Event(), threading.Event()

    @task
    def held() -> None:
        release.wait(LONG_SECONDS)

    @flow(timeout_seconds=0.05, retries=1)
    def late() -> None:
        tries.append(context.current())
        begun.set()
        if len(tries) == 1:
            held.submit()
            pause_flow_run(reschedule=True)

    late.fn.__qualname__ = "late"
    with beside(partial(late, return_state=True)) as ended:
        begun.wait(LONG_SECONDS)
        await_late(tries[0])
        # Both the body and the end of its attempt wait for the task by now.
        time.sleep(0.05)
        release.set()
        assert ended.get(timeout=LONG_SECONDS).is_completed()
    assert "Paused" not in recorded.states_of(recorded.flow_runs()[0])
