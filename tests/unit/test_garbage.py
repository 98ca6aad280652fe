"""The garbage collector rests while calls are made by the thousand, and only then."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from prefect_core import flow, task
from prefect_core.engine import bundles
from prefect_core.engine.garbage import Burst
from tests.contract.holding import HoldingTaskRunner


@pytest.fixture(autouse=True)
def _collecting() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_it_works_again_when_the_last_burst_is_over() -> None:
    first, second = Burst(), Burst()
    first.end()
    first.end()
    assert not gc.isenabled()
    second.end()
    assert gc.isenabled()


def test_whoever_turned_it_off_finds_it_off() -> None:
    gc.disable()
    Burst().end()
    assert not gc.isenabled()


class Circle:
    def __init__(self) -> None:
        self.itself = self


def test_what_was_made_meanwhile_is_not_looked_at_as_young_but_with_everything() -> None:
    burst = Burst()
    left = weakref.ref(Circle())
    burst.end()
    gc.collect(1)
    assert left() is not None
    gc.collect()
    assert left() is None


def test_what_somebody_has_frozen_stays_frozen() -> None:
    kept = Circle()
    gc.freeze()
    try:
        Burst().end()
        # What is frozen is not among what the collector knows.
        assert all(one is not kept for one in gc.get_objects())
    finally:
        gc.unfreeze()


def test_it_works_in_a_child_of_a_process_that_makes_much() -> None:
    burst = Burst()
    try:
        pid = os.fork()
        if not pid:
            os._exit(0 if gc.isenabled() else 1)
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        burst.end()


@task
def none(x: int) -> int:
    return x


def test_it_rests_while_a_map_makes_chunks_and_not_while_they_run() -> None:
    seen: list[bool] = []

    class Watched(HoldingTaskRunner):
        def submit_chunk(self, chunk) -> None:  # type: ignore[no-untyped-def]  # as there
            seen.append(gc.isenabled())
            super().submit_chunk(chunk)

    @flow(task_runner=Watched())
    def chunked() -> bool:
        futures = none.map(range(25), chunk=10)
        is_over = gc.isenabled()
        futures.wait()
        return is_over

    assert chunked()
    # What is left over when all are made is handed over behind the burst.
    assert seen == [False, False, True]


def test_a_map_that_fails_ends_its_burst() -> None:
    def fail(x: int) -> str:
        if x == 12:
            raise ValueError
        return str(x)

    @flow(task_runner=HoldingTaskRunner())
    def failing() -> None:
        none.map(range(25), chunk=10, key=fail)

    with pytest.raises(ValueError):
        failing()
    assert gc.isenabled()


def test_what_waits_for_company_behind_a_map_is_no_burst(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "_WAIT_SECONDS", 60.0)
    runner = HoldingTaskRunner()
    bundle = bundles.Bundle(10)
    payloads: list[Any] = [SimpleNamespace(run=number) for number in range(3)]
    for payload in payloads:
        bundle.add(runner, payload, lambda _: None)
        assert gc.isenabled()
    assert all(map(bundle.withdraw, payloads))


def test_on_a_runner_of_this_process_it_never_rests() -> None:
    @task
    def is_collecting(_: int) -> bool:
        return gc.isenabled()

    @flow(task_runner="sequential")
    def local() -> list[bool]:
        return is_collecting.map(range(25), chunk=10).result()

    assert all(local())
