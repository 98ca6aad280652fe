"""The thread pool keeps its bound, runs each call once, and never waits for itself."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from prefect_core.thread_pool import ThreadPool
from prefect_core.waiting import Signal, block_until_done

MOMENT = 20.0
"""Seconds after which something that should happen at once is taken never to happen."""


@pytest.fixture
def make_pool() -> Iterator[type[ThreadPool]]:
    pools: list[ThreadPool] = []

    def make(limit: int) -> ThreadPool:
        pools.append(ThreadPool(limit, "test-pool"))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()
    for thread in threading.enumerate():
        if thread.name.startswith("test-pool") and not thread.name.endswith("sentry"):
            thread.join(MOMENT)
            assert not thread.is_alive()


def body(*functions: Callable[[], object]) -> Callable[[], Callable[[], object]]:
    """Return a call for the pool: it calls each function, and nothing is to be done after it."""

    def call() -> Callable[[], object]:
        for function in functions:
            function()
        return list

    return call


class Occupancy:
    """Counts the bodies that run at once; one that waits doesn't count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = 0

    def change(self, by: int) -> None:
        with self._lock:
            self.now += by
            self.most = max(self.most, self.now)


@pytest.mark.parametrize("limit", [1, 2, 8])
def test_never_more_bodies_than_the_limit_run_at_once_and_each_call_runs_once(make_pool, limit: int) -> None:
    pool, occupancy, ran, all_ran = make_pool(limit), Occupancy(), Counter[int](), Signal()

    def call(number: int) -> None:
        occupancy.change(+1)
        ran[number] += 1
        if len(ran) == 500:
            all_ran.fire()
        occupancy.change(-1)

    for number in range(500):
        pool.submit(body(lambda number=number: call(number)))
    assert block_until_done([all_ran], MOMENT)
    assert set(ran.values()) == {1}
    assert 1 <= occupancy.most <= limit


@pytest.mark.parametrize("limit", [1, 3])
def test_bodies_that_wait_for_bodies_end_at_any_depth(make_pool, limit: int) -> None:
    pool, occupancy, width, depth = make_pool(limit), Occupancy(), 3, 4

    def spread(level: int, over: Signal) -> None:
        occupancy.change(+1)
        below = [Signal() for _ in range(width if level else 0)]
        for signal in below:
            pool.submit(body(lambda signal=signal: spread(level - 1, signal)))
        occupancy.change(-1)
        block_until_done(below)
        occupancy.change(+1)
        occupancy.change(-1)
        over.fire()

    top = Signal()
    pool.submit(body(lambda: spread(depth, top)))
    assert block_until_done([top], MOMENT)
    assert occupancy.most <= limit


def test_a_call_is_either_run_or_taken_back(make_pool) -> None:
    pool, ran, gate, last = make_pool(2), set[int](), threading.Event(), Signal()
    calls = [body(lambda number=number: ran.add(number)) for number in range(1000)]
    for _ in range(2):
        pool.submit(body(lambda: gate.wait(MOMENT)))
    for call in calls:
        pool.submit(call)
    pool.submit(body(last.fire))
    start = threading.Barrier(3)
    taken_back: list[set[int]] = [set(), set()]

    def take_back(numbers: range, into: set[int]) -> None:
        start.wait(MOMENT)
        into.update(number for number in numbers if pool.withdraw(calls[number]))

    takers = [
        threading.Thread(target=take_back, args=(range(0, 1000, 3), taken_back[0])),
        threading.Thread(target=take_back, args=(range(999, 0, -2), taken_back[1])),
    ]
    for taker in takers:
        taker.start()
    start.wait(MOMENT)
    gate.set()
    for taker in takers:
        taker.join(MOMENT)
    assert block_until_done([last], MOMENT)
    both_places_free = [Signal(), Signal()]
    together = threading.Barrier(2)
    for signal in both_places_free:
        pool.submit(body(lambda: together.wait(MOMENT), signal.fire))
    assert block_until_done(both_places_free, MOMENT)
    assert not taken_back[0] & taken_back[1]
    assert ran | taken_back[0] | taken_back[1] == set(range(1000))
    assert not ran & (taken_back[0] | taken_back[1])


def test_the_place_of_an_abandoned_body_goes_to_another(make_pool) -> None:
    pool, occupied, release, next_ran, after = make_pool(1), Signal(), threading.Event(), Signal(), Signal()

    stuck = body(occupied.fire, lambda: release.wait(MOMENT))
    pool.submit(stuck)
    assert block_until_done([occupied], MOMENT)
    pool.submit(body(next_ran.fire))
    assert not next_ran.done()
    pool.abandon(stuck)
    assert block_until_done([next_ran], MOMENT)
    release.set()
    pool.submit(body(after.fire))
    assert block_until_done([after], MOMENT)


def test_more_threads_than_the_first_ones_come_when_bodies_wait_for_each_other(make_pool) -> None:
    pool, parties = make_pool(64), 50
    together, met = threading.Barrier(parties), [Signal() for _ in range(parties)]
    for signal in met:
        pool.submit(body(lambda: together.wait(MOMENT), signal.fire))
    assert block_until_done(met, MOMENT)


def test_threads_that_come_later_keep_to_the_limit_too(make_pool) -> None:
    limit = 20
    pool, occupancy, together = make_pool(limit), Occupancy(), threading.Barrier(limit)
    over = [Signal() for _ in range(4 * limit)]
    for signal in over:
        pool.submit(
            body(
                lambda: occupancy.change(+1),
                lambda: together.wait(MOMENT),
                lambda: occupancy.change(-1),
                signal.fire,
            )
        )
    assert block_until_done(over, MOMENT)
    assert occupancy.most == limit


def test_a_closed_pool_ends_its_threads_and_takes_no_more(make_pool) -> None:
    pool, ran = make_pool(4), [Signal() for _ in range(20)]
    for signal in ran:
        pool.submit(body(signal.fire))
    pool.close()
    assert block_until_done(ran, MOMENT)
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(body())


def test_a_body_that_wants_its_place_again_gets_that_of_one_that_is_given_up(make_pool) -> None:
    pool, wanted, went_on, late_may_end = make_pool(1), Signal(), Signal(), threading.Event()
    has_begun = threading.Event()

    def late() -> None:
        has_begun.set()
        late_may_end.wait(MOMENT)

    late_call = body(late)
    pool.submit(body(lambda: block_until_done([wanted]), went_on.fire))
    pool.submit(late_call)
    assert has_begun.wait(MOMENT)
    wanted.fire()
    while not pool._returning:
        threading.Event().wait(0.001)
    pool.abandon(late_call)
    try:
        assert block_until_done([went_on], MOMENT)
    finally:
        late_may_end.set()
