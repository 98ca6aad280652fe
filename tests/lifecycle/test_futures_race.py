"""Futures and timers under races: every callback is called once, whoever comes first."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest

from prefect_core.engine import timers
from prefect_core.futures import PrefectFuture, as_completed, wait
from prefect_core.runs import TaskRun
from prefect_core.state_kinds import COMPLETED, FAILED, PENDING
from prefect_core.states import State
from prefect_core.testing import FakeClock
from prefect_core.waiting import Signal, when_done

MOMENT = 20.0


def future() -> PrefectFuture[Any]:
    return PrefectFuture(TaskRun(State(PENDING), "task", "task", None, 0, frozenset()))


def finish(future: PrefectFuture[Any], value: Any = 1) -> None:
    future.task_run.state = State(FAILED if isinstance(value, Exception) else COMPLETED, data=value)
    future.finish()


def together(*works: Any) -> None:
    """Let several functions begin at the same moment, each on a thread, and wait for all."""
    start = threading.Barrier(len(works))

    def begin(work: Any) -> None:
        start.wait(MOMENT)
        work()

    threads = [threading.Thread(target=begin, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(MOMENT)
        assert not thread.is_alive()


@pytest.mark.parametrize("_round", range(5))
def test_each_callback_is_called_once_while_others_add_and_finish(_round: int) -> None:
    futures = [future() for _ in range(200)]
    called: Counter[int] = Counter()
    wins: list[bool] = []

    def add(first: int) -> Any:
        return lambda: [
            one.add_done_callback(lambda _, key=(first, index): called.update([key]))
            for index, one in enumerate(futures)
        ]

    def finish_all() -> None:
        for one in futures:
            one.task_run.state = State(COMPLETED, data=1)
            wins.append(one.fire())

    together(add(0), finish_all, add(1), finish_all, add(2))
    assert len(called) == 600
    assert set(called.values()) == {1}
    assert wins.count(True) == 200


def test_what_waits_for_many_is_called_once_when_the_last_is_done() -> None:
    signals = [Signal() for _ in range(300)]
    reached: list[bool] = []
    when_done(signals, lambda: reached.append(all(signal.done() for signal in signals)))
    together(*[lambda part=part: [signal.fire() for signal in signals[part::3]] for part in range(3)])
    assert reached == [True]


def test_as_completed_gives_each_future_once_while_they_finish() -> None:
    futures = [future() for _ in range(300)]
    seen: list[list[PrefectFuture[Any]]] = [[], []]
    together(
        lambda: seen[0].extend(as_completed(futures + futures[:10], timeout=MOMENT)),
        lambda: [finish(one) for one in futures[::2]],
        lambda: seen[1].extend(as_completed(futures, timeout=MOMENT)),
        lambda: [finish(one) for one in futures[1::2]],
    )
    for found in seen:
        assert sorted(map(id, found)) == sorted(map(id, futures))


def test_many_threads_get_the_one_result() -> None:
    one = future()
    results: list[Any] = []
    together(*[lambda: results.append(one.result(timeout=MOMENT))] * 8, lambda: finish(one, 5))
    assert results == [5] * 8


def test_a_wait_for_the_first_failure_ends_with_it() -> None:
    good, bad, late = future(), future(), future()
    outcome: list[Any] = []
    together(
        lambda: outcome.append(wait([good, bad, late], timeout=MOMENT, return_when="FIRST_EXCEPTION")),
        lambda: (finish(good), finish(bad, ValueError("x"))),
    )
    assert bad in outcome[0].done
    assert outcome[0].not_done == {late}


def test_timers_go_off_in_order_of_their_moments_when_the_clock_moves() -> None:
    with FakeClock() as clock:
        heard: list[int] = []
        last = Signal()
        for seconds in (30, 10, 20):
            timers.after(seconds, lambda seconds=seconds: heard.append(seconds))
        cancelled = timers.after(15, lambda: heard.append(15))
        timers.after(40, last.fire)
        cancelled.cancel()
        clock.wait_for_sleepers(1)
        clock.advance(9.9)
        assert heard == []
        clock.advance(100)
        done = threading.Event()
        last.add_done_callback(lambda _: done.set())
        assert done.wait(MOMENT)
        assert heard == [10, 20, 30]


def test_a_timer_that_is_due_sooner_overtakes_one_that_waits() -> None:
    with FakeClock() as clock:
        late, soon = threading.Event(), threading.Event()
        timers.after(3600, late.set)
        clock.wait_for_sleepers(1)
        timers.after(1, soon.set)
        clock.wait_for_due(1)
        clock.advance(1)
        assert soon.wait(MOMENT)
        assert not late.is_set()


def test_timers_of_a_clock_that_is_gone_do_not_hold_up_the_next() -> None:
    with FakeClock() as clock:
        timers.after(3600, lambda: None)
        clock.wait_for_sleepers(1)
    soon = threading.Event()
    timers.after(0.01, soon.set)
    assert soon.wait(MOMENT)


def test_a_timer_planned_by_the_machine_s_clock_does_not_move_a_test_s() -> None:
    passed, soon = threading.Event(), threading.Event()
    late = timers.after(1800, lambda: None)
    timers.after(0.1, passed.set)
    with FakeClock(jumps=True) as clock:
        assert passed.wait(MOMENT)
        timers.after(1, soon.set)
        assert soon.wait(MOMENT)
        assert clock.elapsed_seconds == pytest.approx(1)
    late.cancel()
