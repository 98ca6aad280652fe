"""Limits on tags: tasks wait for slots as Pending, hold them while an attempt runs, and never wait for themselves."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import anyio
import pytest

from prefect_core import flow, tags, task
from prefect_core.cache_policies import INPUTS
from prefect_core.errors import BlockingWaitError, ConcurrencySlotAcquisitionError
from prefect_core.history.limits import Asked, LimitTable
from prefect_core.limits import desk
from prefect_core.limits.names import make
from prefect_core.task_runners import ConcurrentTaskRunner
from tests.unit.recorded import Recorded

PATIENCE = 30
RUNNERS = ["sequential", "concurrent", "concurrent:2"]


@pytest.fixture(autouse=True)
def table(recorded: Recorded) -> Iterator[LimitTable]:
    """Limits on two tags; and after the test nobody holds a slot or waits."""
    make("tag:one", 1)
    make("tag:two", 2)
    yield recorded.store.limits()
    desk().flush()
    assert recorded.store.limits().requests(lambda _: False) == []


class Stranger:
    """Somebody in another process, as far as the limits know, who holds a slot."""

    def __init__(self, table: LimitTable, name: str = "tag:one") -> None:
        self._table = table
        self._key = table.exchange(99, [Asked((name,), 1, 5, "stranger")]).answers[0].key
        assert self._key in table.look(99, lambda _: False).held

    def leave(self) -> None:
        self._table.exchange(99, [self._key])


def labels(table: LimitTable, *, waiting: bool) -> list[str]:
    return [one.label for one in table.requests(lambda _: False) if (one.granted_us is None) is waiting]


def await_that(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


class Inside:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.times = 0

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.times += 1
            self.most = max(self.most, self._now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now -= 1


@pytest.mark.parametrize("runner", RUNNERS)
def test_no_more_run_than_there_are_slots(runner: str) -> None:
    inside = Inside()

    @task(tags=["two", "unlimited"])
    def work(number: int) -> int:
        with inside:
            time.sleep(0.001)
        return number

    @flow(task_runner=runner)
    def crowd() -> list[int]:
        work(0)
        return work.map(range(20)).result()

    assert crowd() == list(range(20))
    assert inside.times == 21
    assert inside.most == (1 if runner == "sequential" else 2)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_tasks_wait_on_their_loop(backend: str) -> None:
    inside = Inside()

    @task(tags=["two"])
    async def work(number: int) -> int:
        with inside:
            await anyio.sleep(0.002)
        return number

    @flow
    async def crowd() -> list[int]:
        await work(0)
        return [await future for future in [work.submit(number) for number in range(8)]]

    assert anyio.run(crowd, backend=backend) == list(range(8))
    assert inside.most == 2


def test_a_run_that_waits_is_pending_and_keeps_no_place(table: LimitTable, recorded: Recorded) -> None:
    stranger = Stranger(table)
    limited = task(lambda: "late", tags=["one"], name="limited")
    free = task(lambda: "free", name="free")

    @flow(task_runner=ConcurrentTaskRunner(max_workers=1))
    def crowd() -> list[str]:
        late = [limited.submit() for _ in range(3)]
        await_that(lambda: len(labels(table, waiting=True)) == 3)
        assert {future.state.name for future in late} == {"Pending"}
        found = [free.submit().result()]
        stranger.leave()
        return [*found, *(future.result() for future in late)]

    assert crowd() == ["free", "late", "late", "late"]
    assert recorded.task_states("limited") == [["Pending", "Running", "Completed"]] * 3


def test_the_first_to_come_is_the_first_to_be_served(table: LimitTable) -> None:
    stranger = Stranger(table)
    served: list[int] = []
    work = task(served.append, tags=["one"])

    @flow
    def crowd() -> None:
        futures = [work.submit(number) for number in range(10)]
        await_that(lambda: len(labels(table, waiting=True)) == 10)
        stranger.leave()
        for future in futures:
            future.wait()

    crowd()
    assert served == list(range(10))


def test_tasks_are_served_by_their_priority_before_that(table: LimitTable) -> None:
    stranger = Stranger(table)
    served: list[int] = []
    work = task(served.append, tags=["one"])

    @flow
    def crowd() -> None:
        futures = []
        for number, priority in enumerate((0, -1, 5, 0, 5)):
            futures.append(work.with_options(priority=priority).submit(number))
            await_that(lambda: len(labels(table, waiting=True)) == len(futures))
        stranger.leave()
        for future in futures:
            future.wait()

    crowd()
    assert served == [2, 4, 0, 3, 1]


def test_all_tags_of_a_run_are_taken_together(table: LimitTable) -> None:
    seen: list[list[str]] = []
    both = task(lambda: seen.append(sorted(one.name for one in table.requests(lambda _: False))), tags=["two"])
    with tags("one"):
        both()
    assert seen == [["tag:one", "tag:two"]]


def test_tags_of_blocks_around_a_call_count(table: LimitTable) -> None:
    seen: list[list[str]] = []
    work = task(lambda: seen.append(labels(table, waiting=False)), name="work")

    @flow
    def calls() -> None:
        with tags("one"):
            work.submit().wait()
        work.submit().wait()

    calls()
    assert seen[0] == ["work-0"]
    assert "work-1" not in seen[1]


def test_the_slot_is_given_back_before_a_retry_and_taken_again(table: LimitTable) -> None:
    held: list[list[str]] = []
    stranger: list[Stranger] = []

    @task(tags=["one"], retries=1, retry_delay_seconds=0.02)
    def fails() -> None:
        held.append(labels(table, waiting=False))
        if len(held) == 1:
            raise ValueError("once")

    @flow
    def calls() -> None:
        future = fails.submit()
        await_that(lambda: future.state.name == "AwaitingRetry")
        desk().flush()
        stranger.append(Stranger(table))
        await_that(lambda: bool(labels(table, waiting=True)))
        assert len(held) == 1
        stranger[0].leave()
        future.result()

    calls()
    assert held == [["fails-0"], ["fails-0"]]


def test_who_ran_out_of_time_keeps_its_slot_until_its_body_has_ended(table: LimitTable) -> None:
    release = threading.Event()

    @task(tags=["one"], timeout_seconds=0.02)
    def hangs() -> None:
        release.wait(PATIENCE)

    @flow
    def calls() -> None:
        state = hangs.submit().wait()
        assert state is not None
        assert state.name == "TimedOut"
        desk().flush()
        assert labels(table, waiting=False) == ["hangs-0"]
        release.set()
        await_that(lambda: desk().flush() and not labels(table, waiting=False))

    with pytest.raises(TimeoutError):
        calls()


def test_a_limit_of_nothing_ends_the_run(recorded: Recorded) -> None:
    make("tag:none", 0)
    ran: list[int] = []
    work = task(lambda: ran.append(1), tags=["none"], retries=3, name="work")
    message = 'The concurrency limit on tag "none" is 0 and will deadlock if the task tries to run again.'
    state = work(return_state=True)
    assert (state.name, state.message) == ("Failed", message)
    with pytest.raises(ConcurrencySlotAcquisitionError, match="is 0 and will deadlock"):
        flow(lambda: work.submit().result())()
    assert ran == []
    assert recorded.task_states("work") == [["Pending", "Failed"]] * 2


def test_who_waits_for_a_limit_that_is_set_to_nothing_ends(table: LimitTable) -> None:
    stranger = Stranger(table)
    work = task(lambda: None, tags=["one"])

    @flow(final_state_from="return_value")
    def calls() -> str:
        future = work.submit()
        await_that(lambda: bool(labels(table, waiting=True)))
        make("tag:one", 0)
        state = future.wait()
        return f"{state.name}: {state.message}"

    assert calls().startswith('Failed: The concurrency limit on tag "one" is 0')
    stranger.leave()


# Runs inside runs.


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_task_that_calls_tasks_of_its_own_tag_does_not_wait_for_itself(runner: str) -> None:
    assert flow(outer, task_runner=runner)() == [1, 2, 3, 4]


@task(tags=["one"])
def inner(number: int) -> int:
    return number + 1


@task(tags=["one"])
def middle(number: int) -> list[int]:
    return [inner(number), *inner.map([number + 1, number + 2]).result()]


@flow(name="inside")
def inside_flow(number: int) -> int:
    return inner.submit(number).result()


@task(tags=["one"])
def outermost() -> list[int]:
    return [*middle.submit(0).result(), inside_flow(3)]


def outer() -> list[int]:
    return outermost.submit().result()


def test_those_inside_a_holder_take_turns_at_its_slot() -> None:
    inside = Inside()

    @task(tags=["one"])
    def work(number: int) -> None:
        with inside:
            time.sleep(0.001)

    @task(tags=["one"])
    def around() -> None:
        for future in work.map(range(8)):
            future.wait()

    flow(lambda: around.submit().result())()
    assert (inside.times, inside.most) == (8, 1)


def test_children_that_outlive_their_parent_keep_what_they_have(table: LimitTable) -> None:
    release, begun = threading.Event(), threading.Event()

    @task(tags=["one"])
    def child() -> None:
        begun.set()
        release.wait(PATIENCE)

    @task(tags=["one"])
    def parent() -> None:
        child.submit()
        begun.wait(PATIENCE)

    @flow
    def family() -> None:
        parent.submit().wait()
        desk().flush()
        assert labels(table, waiting=False) == ["child-0"]
        other = child.submit()
        await_that(lambda: labels(table, waiting=True) == ["child-1"])
        release.set()
        other.wait()

    family()


# Ends.


def test_a_flow_that_fails_lets_go_of_who_waits(table: LimitTable, recorded: Recorded) -> None:
    stranger = Stranger(table)
    work = task(lambda: None, tags=["one"], name="work")

    @flow
    def fails() -> None:
        for _ in range(3):
            work.submit()
        await_that(lambda: len(labels(table, waiting=True)) == 3)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fails()
    desk().flush()
    assert labels(table, waiting=True) == []
    assert {states[-1] for states in recorded.task_states("work")} == {"Cancelled"}
    stranger.leave()


def test_an_interrupted_wait_ends_the_run_and_wants_nothing_any_more(table: LimitTable, recorded: Recorded) -> None:
    stranger = Stranger(table)
    work = task(lambda: None, tags=["one"], name="work")

    @flow(timeout_seconds=0.05)
    def waits() -> None:
        work()

    with pytest.raises(TimeoutError):
        waits()
    desk().flush()
    assert labels(table, waiting=True) == []
    assert recorded.task_states("work")[0][-1] == "Crashed"
    stranger.leave()


def test_an_async_flow_that_is_cancelled_lets_go_of_who_waits(table: LimitTable) -> None:
    stranger = Stranger(table)

    @task(tags=["one"])
    async def work() -> None:
        raise AssertionError("it had no slot")

    @flow
    async def waits() -> None:
        await work()

    async def main() -> None:
        with anyio.move_on_after(0.05):
            await waits()

    asyncio.run(main())
    desk().flush()
    assert labels(table, waiting=True) == []
    stranger.leave()


def test_a_direct_call_on_the_loop_that_has_the_slot_is_refused() -> None:
    @task(tags=["one"])
    def blocks() -> None:
        raise AssertionError("it had no slot")

    @task(tags=["one"])
    async def holds(held: anyio.Event) -> None:
        held.set()
        await anyio.sleep_forever()

    async def both(refused: list[BaseException]) -> None:
        held = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(holds, held)
            await held.wait()
            try:
                blocks()
            except BlockingWaitError as error:
                refused.append(error)
            group.cancel_scope.cancel()

    refused: list[BaseException] = []
    anyio.run(both, refused)
    assert "a slot of 'tag:one'" in str(refused[0])


def test_a_cached_value_needs_no_slot(table: LimitTable) -> None:
    work = task(lambda x: x, tags=["one"], cache_policy=INPUTS, cache_expiration=timedelta(hours=1))
    work(1)
    desk().flush()
    stranger = Stranger(table)
    assert work(1, return_state=True).name == "Cached"
    stranger.leave()


def test_generator_tasks_hold_their_slot_while_they_are_consumed(table: LimitTable) -> None:
    @task(tags=["one"])
    def numbers() -> Iterator[int]:
        yield 1
        yield 2

    seen = [(number, labels(table, waiting=False)) for number in numbers()]
    assert seen == [(1, ["numbers-0"]), (2, ["numbers-0"])]


def test_a_limit_that_cannot_be_asked_fails_the_run(monkeypatch, table: LimitTable) -> None:
    def fail(*_: object) -> None:
        raise OSError("no disk")

    monkeypatch.setattr(table, "exchange", fail)
    state = task(lambda: None, tags=["one"])(return_state=True)
    assert state.message == "Its concurrency limits could not be asked: HistoryError: OSError: no disk"
