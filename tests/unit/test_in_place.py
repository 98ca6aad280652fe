"""The far end of engines that hold values: what an attempt leaves behind in its worker."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest

from prefect_core import flow, task
from prefect_core.engine import in_place
from prefect_core.engine.parcels import Parcel
from prefect_core.engine.workplace import _Attempt
from tests.contract.holding import HoldingTaskRunner


@pytest.fixture
def parcel() -> Parcel:
    """What a runner was given to send."""
    sent: list[Parcel] = []

    class Keeping(HoldingTaskRunner):
        def _work(self, delivery, native, done) -> None:
            sent.append(delivery.parcel)
            super()._work(delivery, native, done)

    @task
    def add(x: int, y: int = 1) -> int:
        return x + y

    @flow(task_runner=Keeping())
    def main() -> int:
        return add.submit(1).result()

    assert main() == 2
    return sent[0]


def attempts_in_circles(work: Callable[[], object]) -> int:
    """Return how many attempts are left to the garbage collector."""
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        work()
        gc.collect()
        return sum(isinstance(one, _Attempt) for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def test_an_attempt_leaves_nothing_to_the_garbage_collector(parcel: Parcel) -> None:
    def work() -> None:
        assert in_place.work(parcel, (), lambda *_: None, lambda: None).value == 2

    assert attempts_in_circles(work) == 0


def test_what_is_taken_back_of_a_chunk_as_it_would_begin_has_no_reply_and_tells_nothing(parcel: Parcel) -> None:
    told: list[int] = []

    def begins(place: int) -> None:
        if place == 1:
            raise in_place.TakenBack

    def parcels() -> Iterator[tuple[int, Parcel]]:
        for place in range(3):
            yield place, parcel
            [chunk] = in_place._teller._open
            if place == 1:
                # As if it had been under way for long.
                chunk.news._tell(in_place.BEGUN, 0)
                chunk.news._tell(in_place.HAPPENED, b"")

    replies = in_place.work_chunk(parcels(), lambda place, *_: told.append(place), lambda *_: None, begins)
    assert ([place for place, _ in replies], told) == ([0, 2], [])


def test_the_attempts_of_a_chunk_leave_nothing_to_the_garbage_collector(parcel: Parcel) -> None:
    def work() -> None:
        replies = in_place.work_chunk(enumerate([parcel] * 3), lambda *_: None, lambda *_: None, lambda _: None)
        assert len(replies) == 3

    assert attempts_in_circles(work) == 0
