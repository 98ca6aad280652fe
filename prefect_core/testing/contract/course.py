"""The course of a run: attempts, retries, timeouts, hooks, and the beginning and end of the runner itself."""

from __future__ import annotations

import gc
import os
import time
from typing import Any

from prefect_core import flow, task
from prefect_core.context import FlowRunContext
from prefect_core.payload import Payload
from prefect_core.runs import TaskRun
from prefect_core.states import State
from prefect_core.testing.contract.journal import Journal, MakeRunner
from prefect_core.testing.contract.watched import WatchedRunner
from prefect_core.testing.surroundings import Harness


class Course:
    """Attempts and states."""

    def test_a_failing_body_is_tried_again_and_every_attempt_is_recorded(
        self, make_runner: MakeRunner, journal: Journal, world: Harness
    ) -> None:
        @task(retries=3)
        def flaky(name: str, failures: int) -> int:
            journal.note(name)
            if journal.lines().count(name) <= failures:
                raise ValueError(name)
            return journal.lines().count(name)

        @flow(task_runner=make_runner())
        def run() -> list[State | None]:
            return [flaky.submit(name, failures).wait() for name, failures in (("none", 0), ("two", 2), ("all", 9))]

        states = run(return_state=True).data
        assert [state.result(raise_on_failure=False) for state in states[:2]] == [1, 3]
        assert str(states[2]) == "Failed('Task run encountered an exception ValueError: all')"
        rows = world.store.task_runs()
        assert {row.name: row.run_count for row in rows} == {"flaky-0": 1, "flaky-1": 3, "flaky-2": 4}
        assert sum(len(world.store.attempts(row.key)) for row in rows) == len(journal.lines()) == 8
        assert world.state_names("flaky-1") == [
            "Pending",
            "Running",
            "AwaitingRetry",
            "Retrying",
            "AwaitingRetry",
            "Retrying",
            "Completed",
        ]

    def test_retry_conditions_and_hooks_run_in_the_flow_s_process(self, make_runner: MakeRunner) -> None:
        heard: list[tuple[str, int]] = []

        def is_worth_it(_task: Any, run: TaskRun, state: State) -> bool:
            heard.append(("condition", os.getpid()))
            return run.run_count < 2

        def note(_task: Any, _run: TaskRun, state: State) -> None:
            heard.append((state.name, os.getpid()))

        @task(retries=5, retry_condition_fn=is_worth_it, on_failure=[note], on_running=[note], on_completion=[note])
        def refuse() -> None:
            raise ValueError

        @flow(task_runner=make_runner())
        def run() -> State | None:
            return refuse.submit().wait()

        run(return_state=True)
        assert heard == [(name, os.getpid()) for name in ("Running", "condition", "Retrying", "condition", "Failed")]

    def test_a_body_that_takes_too_long_ends_timed_out(self, make_runner: MakeRunner, journal: Journal) -> None:
        @task(timeout_seconds=0.2)
        def linger() -> None:
            journal.wait_for("go")

        @task(timeout_seconds=0.2)
        async def linger_async() -> None:
            import anyio  # only this body is async

            await anyio.sleep(20)

        @flow(task_runner=make_runner())
        def run() -> list[State | None]:
            ended = [body.submit().wait() for body in (linger, linger_async)]
            # Where nothing can interrupt the body, it ends now.
            journal.note("go")
            return ended

        states = run(return_state=True).data
        assert [str(state) for state in states] == [
            "TimedOut('Task run exceeded timeout of 0.2 second(s)', type=FAILED)"
        ] * 2
        assert all(type(state.data) is TimeoutError for state in states)

    def test_a_runner_is_started_and_stopped_once_and_answers_each_payload_once(self, make_runner: MakeRunner) -> None:
        @task
        def body(fails: bool) -> None:
            if fails:
                raise ValueError

        for fails in (False, True):
            calls: list[str] = []
            answered: list[Payload] = []

            @flow(task_runner=WatchedRunner(make_runner(), calls, answered), retries=1)
            def run(fails: bool) -> int:
                body.submit(fails).wait()
                if fails:
                    raise KeyError("flow")
                return 1

            state = run(fails, return_state=True)
            assert state.is_failed() == fails
            assert calls == ["start", "submit", "stop"] * (1 + fails)
            assert len(answered) == len(set(map(id, answered))) == 1 + fails

    def test_what_has_not_started_is_cancelled_when_the_flow_fails(
        self, make_runner: MakeRunner, journal: Journal, world: Harness
    ) -> None:
        @task
        def hold() -> None:
            journal.note("held")
            journal.wait_for("go")

        @task
        def follow(_value: Any) -> None:
            journal.note("followed")

        @flow(task_runner=make_runner())
        def run() -> None:
            held = hold.submit()
            journal.wait_for("held")
            # The first body ends once the second is cancelled.
            follow.submit(held).add_done_callback(lambda _: journal.note("go"))
            raise KeyError("enough")

        if make_runner().runs_on_submit:
            journal.note("go")
        state = run(return_state=True)
        assert str(state) == "Failed(\"Flow run encountered an exception: KeyError: 'enough'\")"
        ends = {row.task_name: (row.state_name, row.state_message) for row in world.store.task_runs()}
        assert ends["hold"][0] == "Completed"
        if make_runner().runs_on_submit:
            assert ends["follow"][0] == "Completed"
        else:
            assert ends["follow"] == ("Cancelled", "The flow run ended before this task run could start.")
            assert "followed" not in journal.lines()

    def test_tasks_leave_nothing_to_the_garbage_collector(self, make_runner: MakeRunner, world: Harness) -> None:
        @task
        def leave_nothing(number: int) -> int:
            return 2 * number

        @flow(task_runner=make_runner())
        def run() -> int:
            doubled = leave_nothing.map(range(3), chunk=2)
            return leave_nothing.submit(doubled[2]).result()

        def left() -> list[Payload]:
            payloads = (one for one in gc.get_objects() if type(one) is Payload)
            return [one for one in payloads if isinstance(one.run, TaskRun) and one.run.task_name == "leave_nothing"]

        # What would be left is counted, not collected: engines have objects that don't bear to be kept as garbage.
        gc.disable()
        try:
            assert run() == 8
            deadline = time.monotonic() + 10
            while left() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert left() == []
        finally:
            gc.enable()

    def test_a_flow_waits_for_all_that_it_submitted(self, make_runner: MakeRunner, journal: Journal) -> None:
        @task
        def write(number: int) -> int:
            journal.note(str(number))
            return number

        @flow(task_runner=make_runner())
        def run() -> str:
            write.map(range(10))
            return "returned"

        assert run() == "returned"
        assert sorted(journal.lines()) == sorted(map(str, range(10)))

    def test_a_flow_that_returns_nothing_fails_with_its_tasks(self, make_runner: MakeRunner) -> None:
        @task
        def body(number: int) -> None:
            if number == 1:
                raise ValueError(number)

        @flow(task_runner=make_runner())
        def run() -> None:
            body.map(range(3))

        assert str(run(return_state=True)) == "Failed('1/3 states failed.')"

    def test_one_runner_serves_several_flows_since_each_run_has_a_duplicate(self, make_runner: MakeRunner) -> None:
        runner = make_runner()
        assert runner.duplicate() is not runner

        @task
        def one() -> int:
            return 1

        flows = [flow(lambda: one.submit().result(), name="again", task_runner=runner) for _ in range(3)]
        assert [run() for run in flows] == [1, 1, 1]

    def test_a_payload_that_has_ended_cannot_be_cancelled(self, make_runner: MakeRunner) -> None:
        answered: list[Payload] = []
        outcomes: list[bool] = []

        @task
        def one() -> int:
            return 1

        @flow(task_runner=WatchedRunner(make_runner(), [], answered))
        def run() -> int:
            value = one.submit().result()
            context = FlowRunContext.get()
            assert context is not None
            outcomes.append(context.task_runner.cancel(answered[0]))
            return value

        assert run() == 1
        assert outcomes == [False]
