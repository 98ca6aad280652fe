"""Runs that take slots under the third driver: whatever is thrown at whichever step, the run ends and no slot is kept or waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from prefect_core import task
from prefect_core.engine.steps import Wait
from prefect_core.engine.task_call import TaskCall
from prefect_core.engine.task_run import task_life
from prefect_core.history.limits import Asked
from prefect_core.limits import desk
from prefect_core.limits.names import make
from prefect_core.testing import ListRecorder
from prefect_core.testing.drive import Fault, drive
from prefect_core.waiting import block_until_done
from tests.lifecycle.invariants import check_over, recorded

FAULTS: list[Callable[[], BaseException]] = [
    lambda: RuntimeError("no more threads"),
    KeyboardInterrupt,
    asyncio.CancelledError,
]


def is_forgotten(recorder: ListRecorder) -> bool:
    desk().flush()
    return recorder.limits()[0].requests(lambda _: False) == [] and desk().held == {}


def fails_once(tries: list[int]) -> int:
    tries.append(1)
    if len(tries) == 1:
        raise ValueError("once")
    return 7


def wait(step: Wait) -> bool:
    return block_until_done(step.signals, 30)


def a_call() -> TaskCall:
    return TaskCall(task(fails_once, tags=["one"], retries=1, retry_delay_seconds=5), ([],), {}, None, None)


def test_slots_are_waited_for_before_each_attempt() -> None:
    with recorded() as recorder:
        make("tag:one", 1)
        call = a_call()
        driven = drive(task_life(call), wait=wait)
        assert driven.kinds() == ["Wait", "Call", "Sleep", "Wait", "Call"]
        assert call.run.state.data == 7
        check_over(recorder, call.run)
        assert is_forgotten(recorder)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(5))
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_is_thrown_no_slot_is_kept(fault: Callable[[], BaseException], step: int, after: bool) -> None:
    with recorded() as recorder:
        make("tag:one", 1)
        call = a_call()
        drive(task_life(call), [Fault(step, fault(), after)], wait=wait)
        check_over(recorder, call.run)
        assert is_forgotten(recorder)


def test_a_lifecycle_that_is_let_go_lets_its_slots_go() -> None:
    with recorded() as recorder:
        make("tag:one", 1)
        life = task_life(a_call())
        next(life)
        life.close()
        assert is_forgotten(recorder)


def test_a_run_that_somebody_ends_while_it_waits_starts_no_body() -> None:
    with recorded() as recorder:
        make("tag:one", 1)
        table, _ = recorder.limits()
        key = table.exchange(99, [Asked(("tag:one",), 1, 5, "stranger")]).answers[0].key
        call = a_call()

        def ended(step: Wait) -> bool:
            desk().flush()
            call.let_go("The flow run has ended.")
            return block_until_done(step.signals, 30)

        driven = drive(task_life(call), wait=ended)
        assert driven.kinds() == ["Wait"]
        assert call.run.state.name == "Crashed"
        check_over(recorder, call.run)
        table.exchange(99, [key])
        assert is_forgotten(recorder)
