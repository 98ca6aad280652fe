"""What a deadline does to the body that it interrupts on the main thread: no lock is left behind, what cleans up is left to end, and
neither the program's own timer nor an event loop that the body runs is broken."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time

import anyio
import pytest
import trio

from prefect_core import flow, task

SOON = 0.01
LATE = 30

pytestmark = pytest.mark.usefixtures("recorded")


def test_an_interrupted_wait_for_a_condition_leaves_its_lock_as_it_should_be() -> None:
    condition, dice = threading.Condition(), random.Random(5)

    def body():
        while True:
            with condition:
                condition.wait(1e-6)

    for _ in range(300):
        state = task(body, timeout_seconds=dice.uniform(0.0005, 0.002))(return_state=True)
        assert (state.name, type(state.data)) == ("TimedOut", TimeoutError)
        assert condition.acquire(blocking=False)
        condition.release()


def test_a_wait_that_blocks_inside_the_standard_library_is_interrupted() -> None:
    held = threading.Condition()

    def body():
        with held:
            raise AssertionError("it was free")

    holder_may_go, is_held = threading.Event(), threading.Event()

    def hold():
        with held:
            is_held.set()
            holder_may_go.wait(LATE)

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait(LATE)
    began = time.monotonic()
    assert task(body, timeout_seconds=SOON)(return_state=True).name == "TimedOut"
    assert time.monotonic() - began < LATE / 2
    holder_may_go.set()
    holder.join(LATE)


def test_a_deadline_inside_a_finalizer_strikes_behind_it() -> None:
    finalized = []

    class Slow:
        def __del__(self):
            time.sleep(3 * SOON)
            finalized.append(True)

    def body():
        Slow()
        time.sleep(LATE)

    began = time.monotonic()
    assert task(body, timeout_seconds=SOON)(return_state=True).name == "TimedOut"
    assert time.monotonic() - began < LATE / 2
    assert finalized == [True]


def test_an_alarm_that_the_main_thread_does_not_get_is_repeated() -> None:
    def body():
        ours = signal.signal(signal.SIGALRM, lambda *_: signal.signal(signal.SIGALRM, ours))
        time.sleep(LATE)

    began = time.monotonic()
    assert task(body, timeout_seconds=SOON)(return_state=True).name == "TimedOut"
    assert time.monotonic() - began < LATE / 2


@pytest.mark.parametrize("decorate", [task, flow])
def test_what_cleans_up_behind_a_deadline_is_not_interrupted_again(decorate) -> None:
    steps = []

    def clean_up(step):
        for _ in range(20):
            time.sleep(0.001)
        steps.append(step)

    def inner():
        try:
            time.sleep(LATE)
        finally:
            clean_up("inner")

    def outer():
        try:
            decorate(inner, timeout_seconds=2 * SOON)()
        finally:
            clean_up("outer")

    assert flow(outer, timeout_seconds=SOON)(return_state=True).name == "TimedOut"
    assert steps == ["inner", "outer"]


def test_an_error_of_what_cleans_up_makes_it_no_failure_of_another_kind() -> None:
    def body():
        try:
            time.sleep(LATE)
        finally:
            raise ValueError("while cleaning up")

    assert task(body, timeout_seconds=SOON)(return_state=True).name == "TimedOut"


def test_a_timer_of_the_program_goes_on_behind_the_body() -> None:
    handler = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    timer = signal.setitimer(signal.ITIMER_REAL, 100, 50)
    try:
        task(lambda: time.sleep(LATE), timeout_seconds=SOON)(return_state=True)
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 60 < left < 100 - SOON
        assert interval == 50
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)


async def in_trio_children(cleaned_up):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cleaning_up, cleaned_up)
        await cleaning_up(cleaned_up)


async def in_asyncio_tasks(cleaned_up):
    await asyncio.gather(cleaning_up(cleaned_up), cleaning_up(cleaned_up))


async def cleaning_up(cleaned_up):
    try:
        await anyio.sleep(LATE)
    finally:
        cleaned_up.append(True)


LOOPS = pytest.mark.parametrize(
    ("run", "main"),
    [
        (trio.run, in_trio_children),
        (lambda main, *args: asyncio.run(main(*args)), in_asyncio_tasks),
        (anyio.run, in_asyncio_tasks),
    ],
    ids=["trio", "asyncio", "anyio"],
)


@LOOPS
@pytest.mark.parametrize("decorate", [task, flow])
def test_a_loop_that_a_def_body_runs_is_wound_up_at_the_deadline(run, main, decorate) -> None:
    cleaned_up = []

    def body():
        run(main, cleaned_up)

    began = time.monotonic()
    state = decorate(body, timeout_seconds=2 * SOON)(return_state=True)
    assert (state.name, type(state.data)) == ("TimedOut", TimeoutError)
    assert time.monotonic() - began < LATE / 2
    assert cleaned_up == [True, True]
    # The next loop on this thread finds nothing of it.
    trio.run(trio.lowlevel.checkpoint)


@LOOPS
def test_a_loop_inside_of_a_body_inside_of_a_body_ends_at_the_outer_deadline(run, main) -> None:
    cleaned_up = []

    @task
    def inner():
        run(main, cleaned_up)

    @flow(timeout_seconds=2 * SOON)
    def outer():
        inner()

    assert outer(return_state=True).name == "TimedOut"
    assert cleaned_up == [True, True]


def test_a_loop_in_a_body_that_is_in_time_is_left_alone() -> None:
    @flow(timeout_seconds=LATE)
    def body():
        async def main():
            await trio.sleep(0)
            return 7

        return trio.run(main)

    assert body() == 7


def test_what_a_generator_on_another_thread_returns_too_late_is_dropped() -> None:
    @task(timeout_seconds=SOON)
    def numbers():
        yield 1
        time.sleep(3 * SOON)

    errors = []

    def consume():
        try:
            list(numbers())
        except TimeoutError as error:
            errors.append(error)

    thread = threading.Thread(target=consume)
    thread.start()
    thread.join(LATE)
    assert len(errors) == 1
