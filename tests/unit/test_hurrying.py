"""A crash ends at once what event loops run: no interrupt is lost on the way, whatever is just about to begin."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import anyio
import anyio.lowlevel
import pytest
import trio

from prefect_core import flow, quote, task
from prefect_core.errors import TerminationSignal
from prefect_core.settings import temporary_settings
from prefect_core.task_runners import ConcurrentTaskRunner

GRACE_SECONDS = 20
CANCELLED = "Execution was cancelled by the runtime environment."
SIGNALS = pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TerminationSignal)],
    ids=["ctrl-c", "sigterm"],
)


@pytest.fixture(params=["asyncio", "trio"])
def run_async(request):
    """Run an async function without arguments on each event loop."""
    return (lambda function: asyncio.run(function())) if request.param == "asyncio" else trio.run


@pytest.fixture(autouse=True)
def _ends_before_the_grace_does():
    """Give what is not told a grace that the test would notice."""
    with temporary_settings(interrupt_grace_seconds=GRACE_SECONDS):
        began = time.monotonic()
        yield
    assert time.monotonic() - began < GRACE_SECONDS


class OnTheWay(ConcurrentTaskRunner):
    """Keeps async attempts on their way to the loop until they have been interrupted: `first` before, else behind the loop's door."""

    def __init__(self, max_workers=None, stops_at="before"):
        super().__init__(max_workers)
        self.stops_at = stops_at
        self.on_the_way, self.was_asked = threading.Event(), threading.Event()

    def options(self):
        return {"max_workers": self.max_workers, "stops_at": self.stops_at}

    def duplicate(self):
        twin = type(self)(self.max_workers, self.stops_at)
        twin.on_the_way, twin.was_asked = self.on_the_way, self.was_asked
        return twin

    def start(self, host):
        self.host = host
        super().start(self)

    def spawn(self, function, *args):
        if self.stops_at == "before":
            self.stop_on_the_way()
            return self.host.spawn(function, *args)
        cancel = self.host.spawn(function, *args)
        self.stop_on_the_way()
        return cancel

    def stop_on_the_way(self):
        self.on_the_way.set()
        assert self.was_asked.wait(30)

    def loop(self):
        return self.host.loop()

    def interrupt(self, payload):
        super().interrupt(payload)
        self.was_asked.set()


@task
async def forever():
    await anyio.sleep_forever()


@pytest.mark.parametrize("places", [None, 1])
@pytest.mark.parametrize("stops_at", ["before", "behind"])
def test_an_interrupt_reaches_an_async_task_on_its_way_to_the_loop(recorded, places, stops_at: str) -> None:
    runner = OnTheWay(places, stops_at)

    @flow(task_runner=runner)
    def child():
        forever.submit()

    @flow
    def body():
        child.submit()
        assert runner.on_the_way.wait(30)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        body()
    assert [row.state_message for row in recorded.task_runs() if row.task_name == "forever"] == [CANCELLED]
    assert recorded.unfinished() == []


def test_an_async_task_that_comes_from_a_thread_when_its_flow_is_cancelled_already_ends_too(
    recorded, run_async
) -> None:
    runner = OnTheWay(1)

    @flow(task_runner=runner)
    async def body():
        forever.submit()
        await anyio.sleep_forever()

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(body)
            while not runner.on_the_way.is_set():
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()

    run_async(main)
    assert [row.state_name for row in recorded.task_runs()] == ["Crashed"]
    assert recorded.unfinished() == []


def test_a_body_does_not_begin_in_a_run_that_is_cancelled_already(recorded, run_async) -> None:
    ran = []

    @flow
    async def body():
        ran.append("body")

    async def main():
        with anyio.CancelScope() as scope:
            scope.cancel()
            await body()

    run_async(main)
    assert ran == []
    assert [(row.state_name, row.state_message) for row in recorded.flow_runs()] == [("Crashed", CANCELLED)]


@SIGNALS
def test_a_signal_ends_a_def_body_that_blocks_the_loop_before_that_can_cancel_the_flow(
    recorded, run_async, number, error
) -> None:
    @task
    def linger():
        time.sleep(30)

    @flow
    async def body():
        os.kill(os.getpid(), number)
        linger()

    with pytest.raises(error):
        run_async(body)
    assert recorded.unfinished() == []


@SIGNALS
def test_a_signal_ends_a_wait_that_blocks_the_loop_before_that_can_cancel_the_flow(
    recorded, run_async, number, error
) -> None:
    end = threading.Event()

    @task
    def held():
        assert end.wait(30)

    @flow
    async def body():
        future = held.submit()
        os.kill(os.getpid(), number)
        try:
            future.result()
        finally:
            assert not end.is_set()
            end.set()

    timer = threading.Timer(GRACE_SECONDS, end.set)
    timer.start()
    with pytest.raises(error):
        run_async(body)
    timer.cancel()
    assert recorded.unfinished() == []


@SIGNALS
def test_a_signal_does_not_interrupt_what_cleans_up_after_the_cancellation(recorded, run_async, number, error) -> None:
    steps = []

    @task
    def clean_up():
        # Longer than the signal would take to come again.
        for _ in range(50):
            time.sleep(0.002)
        steps.append("cleaned up")

    @flow
    async def body():
        try:
            os.kill(os.getpid(), number)
            await anyio.sleep_forever()
        finally:
            clean_up()

    with pytest.raises(error):
        run_async(body)
    assert steps == ["cleaned up"]


@pytest.mark.parametrize("has_asked_back", [False, True], ids=["while it awaits", "while it wants its place again"])
def test_an_async_task_that_is_cancelled_without_its_place_leaves_the_bound_as_it_was(
    recorded, run_async, has_asked_back: bool
) -> None:
    may_end, has_begun = threading.Event(), threading.Event()
    at_once, most = [], []

    @task
    def held():
        has_begun.set()
        assert may_end.wait(GRACE_SECONDS)

    @task
    def count():
        at_once.append(True)
        # Long enough for another thread, if there were a second place.
        time.sleep(0.005)
        most.append(len(at_once))
        at_once.pop()

    @task
    async def gives_up(scope, future):
        with scope:
            await future

    @task(task_runner="concurrent")
    async def until(end):
        await end.wait()

    @flow(task_runner="concurrent:1")
    async def body():
        scope, end = anyio.CancelScope(), anyio.Event()
        elsewhere = until.submit(end)
        waiting, holder = gives_up.submit(scope, quote(elsewhere)), held.submit()
        while not has_begun.is_set():
            await anyio.sleep(0.001)
        if has_asked_back:
            end.set()
            await elsewhere
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
        scope.cancel()
        await waiting
        end.set()
        may_end.set()
        for future in [holder, *[count.submit() for _ in range(6)]]:
            await future

    run_async(body)
    assert set(most) == {1}
