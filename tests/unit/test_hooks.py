"""Hooks: which are called when, with what, in which order, and what a failing one changes."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from prefect_core import flow, task
from prefect_core.context import get_run_context
from prefect_core.states import Cancelled, Completed, Failed, Paused

pytestmark = pytest.mark.usefixtures("recorded")

ENDS = {
    "completes": (lambda: 1, "on_completion", "Completed"),
    "raises": (lambda: 1 / 0, "on_failure", "Failed"),
    "returns failed": (lambda: Failed(name="Mine"), "on_failure", "Mine"),
    "returns skipped": (lambda: Completed(name="Skipped"), "on_completion", "Skipped"),
}


def collector(seen: list, label: str):
    """Make a hook that notes its label and what it was called with."""
    return lambda subject, run, state: seen.append((label, subject, run, state))


def options(seen: list, names: list[str]) -> dict:
    return {name: [collector(seen, name)] for name in names}


TASK_HOOKS = ["on_running", "on_completion", "on_failure"]
FLOW_HOOKS = [*TASK_HOOKS, "on_cancellation", "on_crashed"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", ["called", "submitted"])
@pytest.mark.parametrize(("decorate", "names"), [(task, TASK_HOOKS), (flow, FLOW_HOOKS)], ids=["task", "flow"])
def test_the_hooks_of_the_state_entered_are_called_with_the_subject_the_run_and_the_state(
    decorate, names, way: str, end: str
) -> None:
    body, expected, state_name = ENDS[end]
    seen: list = []
    subject = decorate(body, **options(seen, names))

    @flow
    def around():
        state = subject(return_state=True) if way == "called" else subject.submit().wait()
        assert state.name == state_name
        return "fine"

    around()
    assert [entry[0] for entry in seen] == ["on_running", expected]
    _, given, run, state = seen[-1]
    assert given is subject
    assert run.state is state
    assert state.name == state_name
    assert seen[0][3].name == "Running"


def test_a_flow_that_crashes_calls_its_own_hooks(recorded) -> None:
    seen: list = []

    @flow(**options(seen, FLOW_HOOKS))
    def body():
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        body()
    assert [entry[0] for entry in seen] == ["on_running", "on_crashed"]
    assert recorded.flow_runs()[0].state_message == "Execution was aborted by Python system exit call."


def test_a_flow_that_is_cancelled_calls_its_own_hooks_and_a_paused_one_none() -> None:
    seen: list = []
    flow(lambda: Cancelled(), **options(seen, FLOW_HOOKS))(return_state=True)
    assert [entry[0] for entry in seen] == ["on_running", "on_cancellation"]
    seen.clear()
    flow(lambda: Paused(), **options(seen, FLOW_HOOKS))(return_state=True)
    assert [entry[0] for entry in seen] == ["on_running"]


def test_a_run_that_could_not_start_calls_no_hook() -> None:
    seen: list = []
    bad = task(lambda: 1 / 0)
    child_task = task(lambda x: x, **options(seen, TASK_HOOKS))
    child_flow = flow(lambda x: x, **options(seen, FLOW_HOOKS))

    @flow
    def around():
        upstream = bad.submit()
        return [child.submit(upstream).wait().name for child in (child_task, child_flow)]

    assert around() == ["NotReady", "NotReady"]
    assert seen == []


def test_hooks_are_called_in_order_and_before_the_result_is_returned() -> None:
    order = []
    hooks = [lambda *_, n=n: order.append(n) for n in range(5)]

    @task(on_completion=hooks)
    def body():
        order.append("body")

    body()
    order.append("returned")
    assert order == ["body", 0, 1, 2, 3, 4, "returned"]

    order.clear()
    body.submit().result()
    order.append("returned")
    assert order == ["body", 0, 1, 2, 3, 4, "returned"]


async def async_hook(seen, subject, run, state):
    await asyncio.sleep(0)
    seen.append(("async", get_run_context().run is run))


class HookClass:
    def __init__(self, seen):
        self.seen = seen

    def __call__(self, subject, run, state):
        self.seen.append(("class", get_run_context().run is run))


class AsyncHookClass(HookClass):
    async def __call__(self, subject, run, state):
        await asyncio.sleep(0)
        super().__call__(subject, run, state)


HOOK_KINDS = {
    "partial": lambda seen: partial(lambda seen, *_: seen.append(("partial", True)), seen),
    "async partial": lambda seen: partial(async_hook, seen),
    "object": HookClass,
    "async object": AsyncHookClass,
}


@pytest.mark.parametrize("kind", HOOK_KINDS)
@pytest.mark.parametrize("option", ["on_completion", "on_running"])
@pytest.mark.parametrize("way", ["def", "async def", "submitted", "def flow", "async flow"])
def test_a_hook_may_be_of_any_kind_and_runs_inside_the_run(kind: str, option: str, way: str) -> None:
    seen: list = []
    hooks = {option: [HOOK_KINDS[kind](seen)]}

    def plain():
        return 1

    async def coroutine():
        return 1

    match way:
        case "def":
            task(plain, **hooks)()
        case "async def":
            asyncio.run(task(coroutine, **hooks)())
        case "submitted":
            task(plain, **hooks).submit().result()
        case "def flow":
            flow(plain, **hooks)()
        case "async flow":
            asyncio.run(flow(coroutine, **hooks)())
    assert len(seen) == 1
    assert seen[0][1] is True


@pytest.mark.parametrize("decorate", [task, flow], ids=["task", "flow"])
@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
def test_a_failing_hook_is_logged_and_changes_nothing(decorate, is_async: bool, caplog) -> None:
    seen = []

    def broken(*_):
        raise ValueError("broken hook")

    async def broken_async(*_):
        raise ValueError("broken hook")

    hook = broken_async if is_async else broken
    state = decorate(lambda: 1, on_running=[hook], on_completion=[hook, lambda *_: seen.append("next")])(
        return_state=True
    )
    assert (state.name, state.result()) == ("Completed", 1)
    assert seen == ["next"]
    assert caplog.text.count(f"An error was encountered while running hook '{hook.__name__}'") == 2
    assert "ValueError: broken hook" in caplog.text


def test_a_hook_is_announced_in_the_log(caplog) -> None:
    def my_hook(*_):
        pass

    caplog.set_level("INFO", logger="prefect_core")
    task(lambda: 1 / 0, on_failure=[my_hook])(return_state=True)
    assert "Running hook 'my_hook' in response to entering state 'Failed'" in caplog.text
    assert "Hook 'my_hook' finished running successfully" in caplog.text


def test_each_option_is_a_decorator_too() -> None:
    seen = []
    subject = flow(lambda: 1 / 0)
    child = task(lambda: 1)

    @subject.on_running
    @subject.on_failure
    @subject.on_completion
    @subject.on_crashed
    @subject.on_cancellation
    @child.on_running
    @child.on_failure
    @child.on_completion
    def hook(subject, run, state):
        seen.append(state.name)

    assert callable(hook)
    subject(return_state=True)
    child()
    assert seen == ["Running", "Failed", "Running", "Completed"]


def test_failure_hooks_wait_for_the_last_attempt_and_running_hooks_do_not() -> None:
    seen: list = []
    for decorate, names in ((task, TASK_HOOKS), (flow, FLOW_HOOKS)):
        seen.clear()
        decorate(lambda: 1 / 0, retries=2, **options(seen, names))(return_state=True)
        assert [entry[0] for entry in seen] == ["on_running"] * 3 + ["on_failure"]


def test_a_hook_may_run_tasks_and_flows_of_its_own(recorded) -> None:
    @task
    def report():
        return 5

    results = []

    @task(on_completion=[lambda *_: results.append(report()), lambda *_: results.append(report.submit().result())])
    def body():
        pass

    flow(lambda: body.submit().wait() and None)()
    body()
    for hook in (lambda *_: results.append(report()), lambda *_: results.append(report.submit().result())):
        flow(lambda: None, on_completion=[hook], on_running=[hook])()
        flow(lambda: 1 / 0, on_failure=[hook])(return_state=True)
    assert results == [5] * 10
    assert recorded.unfinished() == []


def test_the_hooks_of_a_submitted_task_block_no_other_task() -> None:
    release, entered = threading.Event(), threading.Event()

    def slow_hook(*_):
        entered.set()
        assert release.wait(30)

    @task(on_completion=[slow_hook])
    def body():
        return 1

    @task
    def other():
        return 2

    @flow(task_runner="concurrent:1")
    def around():
        first = body.submit()
        assert entered.wait(30)
        assert not first.done()
        value = other.submit().result()
        release.set()
        return first.result() + value

    assert around() == 3


def test_an_interrupt_inside_a_hook_is_not_swallowed(recorded) -> None:
    def hook(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flow(lambda: 1, on_completion=[hook])()
    assert recorded.flow_runs()[0].state_name == "Completed"
