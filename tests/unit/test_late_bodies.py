"""Bodies on threads that go on behind their timeout are reported: at the deadline, at their end, and at the end of their flow run."""

from __future__ import annotations

import re
import threading

import pytest

from prefect_core import flow, task

SOON = 0.01
LATE = 30
GOES_ON = (
    "The body did not end at its timeout of 0.01 second(s) and goes on in a thread, which can't be stopped. What it returns is dropped, "
    'and a retry waits for its end. With @task(isolation="process") it runs in a process of its own, which can be.'
)
HAS_ENDED = re.compile(
    r"The body that went on behind its timeout of 0\.01 second\(s\) has ended, after [\d.e-]+ second\(s\)\."
)
STILL_RUNNING = (
    "The flow run ends while the bodies of 1 task run(s) in it, which timed out, go on in threads: 'late-0'. They end with this process at "
    "the latest."
)


class Held:
    """A body that goes on until it is let go, and says when it has ended and its end was dealt with."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self) -> str:
        self.go.wait(LATE)
        return "late"


@pytest.fixture
def held():
    held = Held()
    yield held
    held.go.set()


def task_of(held: Held, **given):
    def body():
        return held()

    return task(body, name="late", timeout_seconds=SOON, **given)


def lines(recorded, name: str) -> list[str]:
    recorded.recorder.flush()
    row = next(row for row in [*recorded.task_runs(), *recorded.flow_runs()] if row.name == name)
    return [line.message for line in recorded.store.logs(row.key, level=20)]


def on_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(LATE)


@pytest.mark.parametrize("way", ["submitted", "called on a thread"])
def test_a_body_that_goes_on_is_told_of_once_and_so_is_its_end(recorded, held, caplog, way: str) -> None:
    body = task_of(held)
    if way == "submitted":
        body.submit().wait()
    else:
        on_thread(lambda: body(return_state=True))
    assert lines(recorded, "late-0").count(GOES_ON) == 1
    assert not any(map(HAS_ENDED.fullmatch, caplog.messages))
    told = threading.Event()
    watch_for(HAS_ENDED, told)
    held.go.set()
    assert told.wait(LATE)
    assert recorded.task_states("late") == [["Pending", "Running", "TimedOut"]]


def watch_for(pattern: re.Pattern[str], told: threading.Event) -> None:
    """Set an event when the engine shows such a line."""
    import logging

    class Watch(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if pattern.fullmatch(record.getMessage()):
                told.set()
            return True

    logging.getLogger("prefect_core.task_runs").addFilter(Watch())


def test_a_flow_run_names_the_bodies_that_it_leaves_running(recorded, held) -> None:
    late, quick = task_of(held), task(lambda: 1, name="quick", timeout_seconds=LATE)

    @flow(flow_run_name="around")
    def around():
        late.submit().wait()
        return quick.submit().result()

    assert around() == 1
    assert lines(recorded, "around").count(STILL_RUNNING) == 1


def test_a_flow_run_whose_late_body_has_ended_says_nothing(recorded, held) -> None:
    late = task_of(held, retries=1)

    @flow(flow_run_name="around")
    def around():
        future = late.submit()
        while future.state.name != "AwaitingRetry":
            threading.Event().wait(0.001)
        held.go.set()
        return future.wait().name

    # The second attempt may be in time, or not.
    assert around() in {"Completed", "TimedOut"}
    assert lines(recorded, "late-0").count(GOES_ON) >= 1
    assert any(map(HAS_ENDED.fullmatch, lines(recorded, "late-0")))


def test_a_flow_s_own_body_that_goes_on_is_told_of_with_what_ends_it(recorded, held) -> None:
    body = flow(lambda: held(), name="late", flow_run_name="late-flow", timeout_seconds=SOON)
    on_thread(lambda: body(return_state=True))
    told = [line for line in lines(recorded, "late-flow") if "goes on in a thread" in line]
    assert len(told) == 1
    assert told[0].endswith("The next task or flow that it calls ends it.")


def test_a_body_that_is_interrupted_in_time_is_not_told_of(recorded) -> None:
    never = threading.Event()
    assert task(lambda: never.wait(LATE), name="late", timeout_seconds=SOON)(return_state=True).name == "TimedOut"
    assert not [line for line in lines(recorded, "late-0") if "goes on" in line]
