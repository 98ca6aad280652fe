"""The far end of engines that hold values: what an attempt leaves behind in its worker."""

from __future__ import annotations

import gc

from prefect_core import flow, task
from prefect_core.engine import in_place
from prefect_core.engine.parcels import Parcel
from tests.contract.holding import HoldingTaskRunner

ATTEMPTS = 50


def parcel_of_an_attempt() -> Parcel:
    """Return what a runner was given to send."""
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


def test_an_attempt_leaves_nothing_to_the_garbage_collector() -> None:
    parcel = parcel_of_an_attempt()
    told: list[str] = []

    def work() -> None:
        assert in_place.work(parcel, (), lambda kind, _: told.append(kind), lambda: None).value == 2

    work()
    gc.collect()
    gc.disable()
    try:
        for _ in range(ATTEMPTS):
            work()
        assert gc.collect() < ATTEMPTS
    finally:
        gc.enable()


def test_the_attempts_of_a_chunk_leave_nothing_to_the_garbage_collector() -> None:
    parcels = list(enumerate([parcel_of_an_attempt()] * ATTEMPTS))

    def work() -> None:
        replies = in_place.work_chunk(parcels, lambda *_: None, lambda *_: None, lambda _: None)
        assert len(replies) == ATTEMPTS

    work()
    gc.collect()
    gc.disable()
    try:
        work()
        assert gc.collect() < ATTEMPTS
    finally:
        gc.enable()
