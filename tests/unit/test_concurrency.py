"""Slots around blocks of code: taken, waited for, lent, lost, and given back."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from prefect_core import errors, exceptions, flow, history, task
from prefect_core.concurrency import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    arate_limit,
    concurrency,
    rate_limit,
)
from prefect_core.errors import BlockingWaitError
from prefect_core.history.limits import Asked, LimitTable
from prefect_core.limits import desk
from prefect_core.limits.names import make, remove
from prefect_core.task_runners import ConcurrentTaskRunner
from tests.unit.recorded import Recorded

PATIENCE = 30


@pytest.fixture(autouse=True)
def table(recorded: Recorded) -> Iterator[LimitTable]:
    """Two limits; and after the test nobody holds a slot or waits."""
    make("one", 1)
    make("two", 2)
    yield recorded.store.limits()
    desk().flush()
    assert recorded.store.limits().requests(lambda _: False) == []
    assert desk().held == {}


class Stranger:
    """Somebody in another process, as far as the limits know, who asks for slots and holds them."""

    def __init__(self, table: LimitTable, *names: str, **options: Any) -> None:
        self._table = table
        self._answer = table.exchange(99, [Asked(names, options.pop("occupy", 1), 5, "stranger", **options)]).answers[0]

    @property
    def has_slots(self) -> bool:
        return self._answer.key in self._table.look(99, lambda _: False).held

    def leave(self) -> None:
        assert self._answer.key is not None
        self._table.exchange(99, [self._answer.key])


def holders(table: LimitTable, name: str) -> list[str]:
    return [one.label for one in table.requests(lambda _: False) if one.name == name and one.granted_us is not None]


def waiters(table: LimitTable, name: str) -> list[str]:
    return [one.label for one in table.requests(lambda _: False) if one.name == name and one.granted_us is None]


def await_that(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_block_holds_its_slots_and_gives_them_back(table: LimitTable) -> None:
    with concurrency("two", occupy=2):
        assert not Stranger(table, "two").has_slots
    desk().flush()
    [row] = [one for one in table.requests(lambda _: False) if one.label == "stranger"]
    assert row.granted_us is not None
    table.exchange(99, [row.key])


def test_an_exception_in_the_block_gives_them_back_too() -> None:
    with pytest.raises(ValueError, match="mine"), concurrency("one"):
        raise ValueError("mine")
    with concurrency("one", timeout_seconds=PATIENCE):
        pass


def test_a_waiter_is_told_when_a_slot_is_free(table: LimitTable) -> None:
    stranger = Stranger(table, "one")
    entered = threading.Event()

    def enter() -> None:
        with concurrency("one"):
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    await_that(lambda: bool(waiters(table, "one")))
    assert not entered.is_set()
    stranger.leave()
    assert entered.wait(PATIENCE)
    thread.join(PATIENCE)


def test_no_more_are_inside_than_there_are_slots() -> None:
    lock, inside, most = threading.Lock(), [0], [0]

    def enter() -> None:
        for _ in range(5):
            with concurrency(["two"]):
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                with lock:
                    inside[0] -= 1

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert most == [2]


def test_names_in_any_order_are_no_deadlock() -> None:
    def enter(*names: str) -> None:
        for _ in range(20):
            with concurrency(names, timeout_seconds=PATIENCE):
                pass

    threads = [threading.Thread(target=enter, args=names) for names in (("one", "two"), ("two", "one")) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)


def test_slots_that_are_not_to_be_had_in_time_are_an_error(table: LimitTable) -> None:
    stranger = Stranger(table, "one")
    for seconds in (0, 0.02):
        with pytest.raises(AcquireConcurrencySlotTimeoutError, match=f"timed out after {seconds} second"):
            concurrency("one", timeout_seconds=seconds).__enter__()
    with pytest.raises(ConcurrencySlotAcquisitionError, match="Unable to acquire.*'one'.*0 retries") as raised:
        concurrency("one", max_retries=0).__enter__()
    assert not isinstance(raised.value, TimeoutError)
    desk().flush()
    assert waiters(table, "one") == []
    stranger.leave()
    with concurrency("one", timeout_seconds=0):
        pass


def test_a_limit_that_does_not_exist_limits_nothing_unless_strict(caplog) -> None:
    with concurrency(["one", "other"]):
        assert "There is no concurrency limit 'other'" in caplog.text
    with pytest.raises(ConcurrencySlotAcquisitionError, match="no concurrency limit 'other'.*limit create"):
        concurrency(["one", "other"], strict=True).__enter__()
    rate_limit("other")
    with pytest.raises(ConcurrencySlotAcquisitionError, match="'other'"):
        rate_limit("other", strict=True)
    with concurrency([]):
        pass


def test_what_can_never_be_had_is_an_error_at_once() -> None:
    make("none", 0)
    with pytest.raises(ConcurrencySlotAcquisitionError, match="'two' has 2 slots, so 3 of them can never be had"):
        concurrency("two", occupy=3).__enter__()
    with pytest.raises(ConcurrencySlotAcquisitionError, match="'none' has 0 slots"):
        concurrency("none").__enter__()
    with pytest.raises(ConcurrencySlotAcquisitionError, match="'one' has no slot_decay_per_second"):
        rate_limit("one")


def test_who_waits_for_a_limit_that_is_set_to_nothing_is_told(table: LimitTable) -> None:
    stranger = Stranger(table, "one")
    failures = []

    def enter() -> None:
        try:
            with concurrency("one"):
                pass
        except ConcurrencySlotAcquisitionError as error:
            failures.append(str(error))

    thread = threading.Thread(target=enter)
    thread.start()
    await_that(lambda: bool(waiters(table, "one")))
    make("one", 0)
    thread.join(PATIENCE)
    assert failures == ["The concurrency limit 'one' has 0 slots, so 1 of them can never be had."]
    stranger.leave()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"occupy": 0}, "'occupy' must be a positive number, got 0"),
        ({"timeout_seconds": -1}, "'timeout_seconds' must be a non-negative number, got -1"),
        ({"max_retries": -1}, "'max_retries' must be a non-negative number, got -1"),
        ({"lease_duration": 0}, "'lease_duration' must be at least 1 second, got 0"),
    ],
)
def test_bad_numbers_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        concurrency("one", **options)


def test_names_are_texts() -> None:
    with pytest.raises(TypeError, match="names of concurrency limits; got 1"):
        concurrency([1])  # type: ignore[list-item]  # what is refused


def test_a_block_can_be_entered_again_but_not_twice_at_once() -> None:
    block = concurrency("two")
    with block, pytest.raises(RuntimeError, match="already entered"):
        block.__enter__()
    with block:
        pass


def test_priorities_come_before_arrival(table: LimitTable) -> None:
    stranger = Stranger(table, "one")
    served: list[int] = []

    def enter(priority: int) -> None:
        with concurrency("one", priority=priority):
            served.append(priority)

    threads = []
    for number, priority in enumerate((0, 5, -1, 2)):
        threads.append(threading.Thread(target=enter, args=(priority,)))
        threads[-1].start()
        await_that(lambda number=number: len(waiters(table, "one")) == number + 1)
    stranger.leave()
    for thread in threads:
        thread.join(PATIENCE)
    assert served == [5, 2, 0, -1]


# Inside of each other.


def test_a_block_inside_one_of_the_same_limit_takes_of_its_slots(table: LimitTable) -> None:
    with concurrency("one"), concurrency("one", occupy=7, timeout_seconds=PATIENCE):
        assert len(holders(table, "one")) == 2
        assert not Stranger(table, "one").has_slots
    desk().flush()
    for row in table.requests(lambda _: False):
        table.exchange(99, [row.key])


def test_tasks_called_and_submitted_in_a_block_are_inside_of_it() -> None:
    @task
    def inner() -> str:
        with concurrency("one", timeout_seconds=PATIENCE):
            return "in"

    @flow
    def outer() -> list[str]:
        with concurrency("one"):
            return [inner(), inner.submit().result()]

    assert outer() == ["in", "in"]


def test_a_body_that_waits_for_a_slot_lets_others_have_its_place_in_the_runner(table: LimitTable) -> None:
    stranger = Stranger(table, "one")

    @task
    def waits() -> str:
        with concurrency("one"):
            return "late"

    @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    def both() -> list[str]:
        late = waits.submit()
        await_that(lambda: bool(waiters(table, "one")))
        free = task(lambda: "free").submit().result()
        stranger.leave()
        return [free, late.result()]

    assert both() == ["free", "late"]


def test_code_beside_a_block_is_not_inside_of_it(table: LimitTable) -> None:
    async def enter(inside: list[int]) -> int:
        async with concurrency("two"):
            inside[0] += 1
            most = inside[0]
            await asyncio.sleep(0.002)
            inside[0] -= 1
        return most

    @flow
    async def crowd() -> list[int]:
        inside = [0]
        return await asyncio.gather(*(enter(inside) for _ in range(6)))

    assert max(asyncio.run(crowd())) == 2


# On event loops.


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_on_an_event_loop_waiting_blocks_nothing(backend: str, table: LimitTable) -> None:
    stranger = Stranger(table, "one")

    async def enter(entered: anyio.Event) -> None:
        async with concurrency("one"):
            entered.set()

    async def main() -> None:
        entered = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(enter, entered)
            while not waiters(table, "one"):
                await anyio.sleep(0.002)
            stranger.leave()
            await entered.wait()

    anyio.run(main, backend=backend)


def test_a_wait_that_is_cancelled_wants_no_slots_any_more(table: LimitTable) -> None:
    stranger = Stranger(table, "one")

    async def main() -> None:
        with anyio.move_on_after(0.02):
            async with concurrency("one"):
                raise AssertionError("it was free")

    anyio.run(main)
    desk().flush()
    assert waiters(table, "one") == []
    stranger.leave()


def test_a_blocking_wait_that_could_never_end_is_refused() -> None:
    async def main() -> None:
        async def hold(held: anyio.Event) -> None:
            async with concurrency("one"):
                held.set()
                await anyio.sleep_forever()

        async with anyio.create_task_group() as group:
            held = anyio.Event()
            group.start_soon(hold, held)
            await held.wait()
            with pytest.raises(BlockingWaitError, match="a slot of 'one'"):
                concurrency("one").__enter__()
            group.cancel_scope.cancel()

    anyio.run(main)


# Rates.


def test_a_rate_lets_a_burst_through_and_then_so_many_a_second() -> None:
    make("api", 3, 50)
    began = time.monotonic()
    for _ in range(8):
        rate_limit("api")
    assert time.monotonic() - began >= 5 / 50 - 0.001


def test_a_rate_can_be_awaited_and_has_its_time_too() -> None:
    make("api", 1, 0.001)

    async def main() -> None:
        await arate_limit(["api"])
        with pytest.raises(AcquireConcurrencySlotTimeoutError):
            await arate_limit("api", timeout_seconds=0.02)

    anyio.run(main)
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        rate_limit("api", timeout_seconds=0)


# What is lost.


def lose(table: LimitTable) -> None:
    """Let the lease of all that is held run out, as where this process was suspended on a machine that nobody can see."""
    desk().flush()
    table.exchange(0, list(desk().held))
    desk()._renew()


def test_a_lost_lease_is_a_warning(table: LimitTable, caplog) -> None:
    with concurrency("one"):
        lose(table)
        with concurrency("one", timeout_seconds=0):
            pass
    assert "The lease on concurrency slots of 'one' ran out while they were in use" in caplog.text


def test_a_strict_block_is_told_of_a_lost_lease_when_it_is_left(table: LimitTable) -> None:
    done = []
    with (
        pytest.raises(ConcurrencySlotAcquisitionError, match="ran out while they were in use"),
        concurrency("one", strict=True),
    ):
        lose(table)
        done.append("all")
    assert done == ["all"]
    with pytest.raises(ValueError, match="its own"), concurrency("one", strict=True):
        lose(table)
        raise ValueError("its own")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_on_an_event_loop_a_strict_block_is_cancelled(backend: str, table: LimitTable) -> None:
    async def main() -> None:
        with pytest.raises(ConcurrencySlotAcquisitionError, match="ran out while they were in use"):
            async with concurrency("one", strict=True):
                lose(table)
                await anyio.sleep_forever()
        await anyio.sleep(0)
        async with concurrency("one", strict=True):
            await anyio.sleep(0)

    anyio.run(main, backend=backend)


def test_a_cancellation_from_outside_goes_through_a_strict_block() -> None:
    async def main() -> None:
        with anyio.move_on_after(0.01) as scope:
            async with concurrency("one", strict=True):
                await anyio.sleep_forever()
        assert scope.cancelled_caught

    anyio.run(main)


def test_a_history_that_can_not_be_used_is_an_error(monkeypatch, table: LimitTable) -> None:
    def fail(*_: object) -> None:
        raise errors.HistoryError("no disk")

    monkeypatch.setattr(table, "exchange", fail)
    with pytest.raises(ConcurrencySlotAcquisitionError, match="'one' can't be asked from here. no disk"):
        concurrency("one").__enter__()
    monkeypatch.undo()
    with concurrency("one", timeout_seconds=PATIENCE):
        pass


def test_what_could_not_be_given_back_is_given_back_later(monkeypatch, table: LimitTable) -> None:
    def fail(*_: object) -> None:
        raise errors.HistoryError("no disk")

    with concurrency("one"):
        monkeypatch.setattr(table, "exchange", fail)
    desk().flush()
    monkeypatch.undo()
    with concurrency("one", timeout_seconds=PATIENCE):
        pass


def test_what_a_failed_commit_left_behind_is_found(table: LimitTable) -> None:
    with concurrency("two"):
        _, process = history.current().limits()
        key = table.exchange(process, [Asked(("one",), 1, 7, "left behind")]).answers[0].key
        assert key in table.held(process)
        with concurrency("one", timeout_seconds=PATIENCE):
            assert len(holders(table, "one")) == 1


def test_the_errors_stand_in_the_tree_and_travel() -> None:
    error = pickle.loads(pickle.dumps(AcquireConcurrencySlotTimeoutError("late")))
    assert isinstance(error, ConcurrencySlotAcquisitionError)
    assert isinstance(error, TimeoutError)
    assert isinstance(error, errors.PrefectException)
    assert exceptions.AcquireConcurrencySlotTimeoutError is AcquireConcurrencySlotTimeoutError


def test_a_limit_that_is_removed_lets_all_go_on(table: LimitTable) -> None:
    stranger = Stranger(table, "one")
    done = threading.Event()

    def enter() -> None:
        with concurrency("one"):
            done.set()

    thread = threading.Thread(target=enter)
    thread.start()
    await_that(lambda: bool(waiters(table, "one")))
    assert remove("one")
    assert done.wait(PATIENCE)
    thread.join(PATIENCE)
    stranger.leave()


def test_a_program_without_limits_needs_no_clerk() -> None:
    before = {thread.name for thread in threading.enumerate()}
    history.current()
    task(lambda: 1, tags=["unlimited"])()
    assert {thread.name for thread in threading.enumerate()} <= before | {
        "prefect-core-history",
        "prefect_core-steward",
    }
