"""Flow runs that are under way while a test asks why, with a history in memory and one in a file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest

import prefect_core
from prefect_core import clock, history
from prefect_core.control import steward
from prefect_core.control.watches import Watch
from prefect_core.errors import ObjectNotFound
from prefect_core.history import StoreRecorder
from prefect_core.limits import desk
from prefect_core.reasons import Reason, Why
from prefect_core.runs import Run
from tests.unit.recorded import in_memory

PATIENCE = 50

R = TypeVar("R", bound=Reason)


class Stage:
    """Runs flows beside the test, whose bodies wait until the test is over."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.began = threading.Event()
        self._threads: list[threading.Thread] = []
        self._watches: list[Watch] = []

    def answers_for(self, run: Run | None) -> None:
        """Answer for a flow run that a test only records, or (None) for the process, as that does when it knows nothing of a run."""
        told: dict[str, object] = {"step": None}
        key = run.key if run is not None else self.recorder.process << 32
        self._watches.append(steward.watch(key, lambda one: one.answer(told) if one.kind == "why" else None))

    def hold(self) -> None:
        """What a body waits in."""
        self.began.set()
        assert self.go.wait(PATIENCE)

    def start(self, function: Callable[[], Any]) -> None:
        """Run something on a thread."""
        thread = threading.Thread(target=function)
        thread.start()
        self._threads.append(thread)

    def end(self) -> None:
        """Let all go on to their ends."""
        self.go.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        for watch in self._watches:
            watch.close()
        # What was given back last is written before the history is closed.
        assert desk().flush(PATIENCE)

    @property
    def recorder(self) -> StoreRecorder:
        recorder = history.current()
        assert isinstance(recorder, StoreRecorder)
        return recorder


@pytest.fixture(params=["memory", "sqlite"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with ExitStack() as around:
        if request.param == "memory":
            around.enter_context(in_memory())
        made = Stage()
        yield made
        made.end()


class HeldClock(clock.SystemClock):
    """The real clock, but who sleeps on it does so until the test is over."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def sleep(self, seconds: float) -> None:
        self._stage.hold()


@pytest.fixture
def held_clock(stage: Stage) -> Iterator[None]:
    before = clock.install(HeldClock(stage))
    yield
    stage.end()
    clock.install(before)


def until(name: str, holds: Callable[[Why], bool], ask: Callable[[str], Why] = prefect_core.why) -> Why:
    """Ask why until the answer is as wanted: runs get on, and what is recorded comes a moment later."""
    end = time.monotonic() + PATIENCE
    last: Why | None = None
    while time.monotonic() < end:
        try:
            last = ask(name)
        except ObjectNotFound:
            pass
        if last is not None and holds(last):
            return last
        # Who asks without a pause is in the way of those that are to get on.
        time.sleep(0.005)
    raise AssertionError(f"It stayed otherwise: {last and last.as_json()}")


def reason_of(why: Why, kind: type[R]) -> R:
    """Return a reason, which is of this kind."""
    assert isinstance(why.reason, kind), why.as_json()
    return why.reason


def await_reason(name: str, kind: type[R]) -> R:
    """Ask why until the reason is of this kind."""
    return reason_of(until(name, lambda why: isinstance(why.reason, kind)), kind)
