"""Transactions: what is kept together or not at all, and whose hooks are called when, in which order."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from prefect_core import allow_failure, flow, get_run_logger, task
from prefect_core.cache_policies import INPUTS
from prefect_core.errors import SerializationError, StorageError, UpstreamTaskError
from prefect_core.locking import MemoryLockManager, turns
from prefect_core.results.store import ResultStore
from prefect_core.states import Failed
from prefect_core.storage.local import LocalStorage
from prefect_core.transactions import (
    CommitMode,
    IsolationLevel,
    TransactionState,
    atransaction,
    get_transaction,
    transaction,
)
from tests.unit.recorded import Recorded

pytestmark = pytest.mark.usefixtures("recorded")
BY_BOTH = pytest.mark.parametrize("is_async", [False, True], ids=["with", "async with"])


_ran: list[str] = []


class Story:
    """Tasks whose hooks write down that they were called."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def task(self, name: str, **options: Any) -> Any:
        def body(value: Any = None) -> Any:
            self.told.append(name)
            return value

        told = task(body, name=name, **{"persist_result": True, **options})
        told.on_commit(self.hook(f"{name} committed"))
        told.on_rollback(self.hook(f"{name} undone"))
        return told

    def hook(self, word: str) -> Any:
        def tell(txn: Any) -> None:
            self.told.append(word)

        return tell


@pytest.fixture
def story() -> Story:
    return Story()


def kept(recorded: Recorded, name: str) -> list[bool]:
    """Tell of each run of a task whether its value can be taken over."""
    return [recorded.store.kept(row.key) is not None for row in recorded.task_runs(name)]


def in_block(is_async: bool, body: Any, **options: Any) -> Any:
    """Run `body(txn)` in a transaction inside a flow of either colour."""

    @flow(name="around", final_state_from="return_value")
    def around() -> Any:
        with transaction(**options) as txn:
            return body(txn)

    @flow(name="around", final_state_from="return_value")
    async def async_around() -> Any:
        async with atransaction(**options) as txn:
            return body(txn)

    return asyncio.run(async_around()) if is_async else around()


@BY_BOTH
def test_all_is_kept_when_the_block_is_left_well(story: Story, recorded: Recorded, is_async: bool) -> None:
    a, b = story.task("a"), story.task("b")

    def body(txn: Any) -> None:
        a()
        b()
        assert kept(recorded, "a") == [False]

    in_block(is_async, body)
    assert story.told == ["a", "b", "a committed", "b committed"]
    assert kept(recorded, "a") == kept(recorded, "b") == [True]


@BY_BOTH
def test_nothing_is_kept_when_it_is_left_by_an_exception(story: Story, recorded: Recorded, is_async: bool) -> None:
    a, b = story.task("a"), story.task("b")

    def body(txn: Any) -> None:
        a()
        b()
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        in_block(is_async, body)
    assert story.told == ["a", "b", "b undone", "a undone"]
    assert kept(recorded, "a") == kept(recorded, "b") == [False]
    assert recorded.store.results() == []
    assert recorded.verdicts("a") == [("rolled back", "the transaction that it took part in was rolled back")]
    # A final state is final.
    assert recorded.task_states("a") == [["Pending", "Running", "Completed"]]


def test_a_task_that_raises_rolls_back_those_before_it_and_not_itself(story: Story) -> None:
    a, b = story.task("a"), story.task("b")
    fails = task(lambda: 1 / 0, on_rollback=[story.hook("fails undone")])

    def body(txn: Any) -> None:
        a()
        b()
        fails()

    with pytest.raises(ZeroDivisionError):
        in_block(False, body)
    assert story.told == ["a", "b", "b undone", "a undone"]


def test_a_failure_that_is_caught_rolls_nothing_back(story: Story) -> None:
    a = story.task("a")
    fails = task(lambda: 1 / 0, on_rollback=[story.hook("fails undone")])

    def body(txn: Any) -> None:
        a()
        assert fails(return_state=True).is_failed()
        future = fails.submit()
        with pytest.raises(ZeroDivisionError):
            future.result()

    in_block(False, body)
    assert story.told == ["a", "a committed"]


def test_a_returned_failure_undoes_itself_and_the_block(story: Story) -> None:
    a = story.task("a")
    returns = task(lambda: Failed(message="no"), on_rollback=[story.hook("returns undone")])

    def body(txn: Any) -> None:
        a()
        returns(return_state=True)
        assert txn.is_rolled_back()
        story.task("late")()

    in_block(False, body)
    assert story.told == ["a", "returns undone", "a undone", "late", "late undone"]


def test_the_values_of_a_transaction_are_there_for_tasks_and_hooks(story: Story) -> None:
    seen = []

    @task
    def writes(path: str) -> None:
        get_transaction().set("mine", 1)
        seen.append(get_transaction().get("path"))

    @writes.on_rollback
    def deletes(txn: Any) -> None:
        seen.append((txn.get("path"), txn.get("mine"), txn.get("nothing", 0)))

    def body(txn: Any) -> None:
        txn.set("path", ["a"])
        txn.get("path").append("changed by whoever got it")
        writes("x")
        with pytest.raises(ValueError, match="Could not retrieve value for unknown key: mine"):
            txn.get("mine")
        raise KeyError

    with pytest.raises(KeyError):
        in_block(False, body)
    assert seen == [["a"], (["a"], 1, 0)]


def test_hooks_belong_to_the_run_of_their_task(story: Story, caplog) -> None:
    caplog.set_level(logging.INFO)

    @task(persist_result=True)
    def named() -> None:
        pass

    @named.on_commit
    async def tell(txn: Any) -> None:
        get_run_logger().info("from the hook")

    in_block(False, lambda txn: named())
    said = {record.message: getattr(record, "task_run_name", None) for record in caplog.records}
    for line in ("Running commit hook 'tell'", "from the hook", "Commit hook 'tell' finished running successfully"):
        assert said[line] == "named-0"


@BY_BOTH
def test_async_hooks_are_awaited_in_both_kinds_of_block(story: Story, is_async: bool) -> None:
    a = story.task("a")

    @a.on_commit
    async def slow(txn: Any) -> None:
        import anyio

        await anyio.lowlevel.checkpoint()
        story.told.append("awaited")

    in_block(is_async, lambda txn: a())
    assert story.told == ["a", "a committed", "awaited"]


def test_a_failing_commit_hook_rolls_everything_back_and_is_logged(story: Story, recorded: Recorded, caplog) -> None:
    a, b = story.task("a"), story.task("b")

    @b.on_commit
    def refuses(txn: Any) -> None:
        raise OSError("disk")

    def body(txn: Any) -> Any:
        a()
        b()
        return txn

    txn = in_block(False, body, key="k")
    assert txn.is_rolled_back()
    assert story.told == ["a", "b", "a committed", "b committed", "b undone", "a undone"]
    assert kept(recorded, "a") == [False]
    assert "An error was encountered while running commit hook 'refuses'" in caplog.text
    assert "An error was encountered while committing transaction 'k'" in caplog.text


def test_a_failing_rollback_hook_keeps_no_other_from_running(story: Story, caplog) -> None:
    a, b = story.task("a"), story.task("b")

    @b.on_rollback
    def refuses(txn: Any) -> None:
        raise OSError("disk")

    def body(txn: Any) -> None:
        a()
        b()
        assert txn.rollback() is True
        assert txn.rollback() is False

    in_block(False, body)
    assert story.told == ["a", "b", "b undone", "a undone"]
    assert "An error was encountered while running rollback hook 'refuses'" in caplog.text
    assert "An error was encountered while rolling back transaction" in caplog.text


def test_an_interrupt_rolls_back_and_goes_on(story: Story) -> None:
    a = story.task("a")
    with pytest.raises(KeyboardInterrupt), transaction():
        a()
        raise KeyboardInterrupt
    assert story.told == ["a", "a undone"]


def test_a_block_outside_of_flows_holds_whole_flows(story: Story, recorded: Recorded) -> None:
    a = story.task("a")
    inner = flow(lambda: a(5), name="inner", persist_result=True)
    with pytest.raises(ValueError), transaction():
        assert inner() == 5
        raise ValueError
    assert story.told == ["a", "a undone"]
    assert kept(recorded, "a") == [False]
    with transaction():
        inner()
    assert kept(recorded, "a") == [False, True]


# Blocks in blocks, and modes.


def test_a_nested_block_is_ended_by_the_outermost(story: Story, recorded: Recorded) -> None:
    a, b = story.task("a"), story.task("b")

    def body(txn: Any) -> None:
        with transaction() as inner:
            a()
        assert inner.parent is txn
        assert not inner.is_committed()
        assert kept(recorded, "a") == [False]
        b()

    in_block(False, body)
    assert story.told == ["a", "b", "a committed", "b committed"]


def test_a_nested_block_that_is_rolled_back_takes_the_outer_one_along(story: Story) -> None:
    a, b = story.task("a"), story.task("b")

    def body(txn: Any) -> None:
        a()
        with pytest.raises(ValueError), transaction():
            b()
            raise ValueError
        assert txn.is_rolled_back()

    in_block(False, body)
    assert story.told == ["a", "b", "b undone", "a undone"]


def test_an_eager_block_commits_at_its_own_end(story: Story, recorded: Recorded) -> None:
    a, b = story.task("a"), story.task("b")

    def body(txn: Any) -> None:
        with transaction(commit_mode=CommitMode.EAGER) as inner:
            a()
            assert kept(recorded, "a") == [True]
        assert inner.is_committed()
        b()
        raise ValueError

    with pytest.raises(ValueError):
        in_block(False, body)
    assert story.told == ["a", "a committed", "b", "b undone"]
    assert kept(recorded, "a") == [True]


def test_a_block_that_is_off_commits_only_by_hand(story: Story, recorded: Recorded) -> None:
    a, b = story.task("a"), story.task("b")

    def commits(txn: Any) -> None:
        a()
        assert txn.commit() is True
        assert txn.commit() is False
        assert kept(recorded, "a") == [True]

    in_block(False, commits, commit_mode=CommitMode.OFF)
    in_block(False, lambda txn: b() and None, commit_mode=CommitMode.OFF)
    assert story.told == ["a", "a committed", "b", "b undone"]


def test_what_is_called_after_a_commit_by_hand_is_kept_by_itself(story: Story, recorded: Recorded) -> None:
    a = story.task("a")

    def body(txn: Any) -> None:
        txn.commit()
        a()
        assert kept(recorded, "a") == [True]
        raise ValueError

    with pytest.raises(ValueError):
        in_block(False, body)
    assert story.told == ["a", "a committed"]


def test_tasks_in_tasks_and_subflows_take_part(story: Story, recorded: Recorded) -> None:
    a, b = story.task("a"), story.task("b")
    outer = task(lambda: a(), name="outer")
    inner_flow = flow(lambda: b.submit().result(), name="inner")

    def body(txn: Any) -> None:
        outer()
        inner_flow()
        raise ValueError

    with pytest.raises(ValueError):
        in_block(False, body)
    assert story.told == ["a", "b", "b undone", "a undone"]
    assert recorded.store.results() == []


def test_a_task_outside_of_blocks_is_a_transaction_of_its_own(story: Story, recorded: Recorded) -> None:
    a = story.task("a")
    outer = task(lambda: a(1) and get_transaction().is_active(), name="outer", persist_result=True)
    assert flow(lambda: outer())() is True
    assert story.told == ["a", "a committed"]
    assert kept(recorded, "a") == kept(recorded, "outer") == [True]


def test_what_a_body_stages_itself_is_called_too(story: Story) -> None:
    def body() -> None:
        get_transaction().stage(1, on_rollback_hooks=[story.hook("undone")], on_commit_hooks=[story.hook("committed")])
        if story.told:
            raise ValueError

    staging = task(body)
    staging()
    assert story.told == ["committed"]
    with pytest.raises(ValueError):
        staging()
    assert story.told == ["committed", "undone"]


# Submitted runs.


def test_a_block_waits_for_the_runs_that_were_submitted_in_it(story: Story, recorded: Recorded) -> None:
    go_on = threading.Event()
    a = story.task("a")
    waits = task(lambda: go_on.wait(20), name="waits", persist_result=True, on_commit=[story.hook("waits committed")])

    def body(txn: Any) -> None:
        waits.submit()
        a.submit().result()
        threading.Timer(0.05, go_on.set).start()

    in_block(False, body)
    assert sorted(story.told) == ["a", "a committed", "waits committed"]
    assert kept(recorded, "waits") == [True]


@BY_BOTH
def test_a_submitted_run_whose_failure_nobody_asked_for_rolls_back_and_raises(story: Story, is_async: bool) -> None:
    a = story.task("a")
    fails = task(lambda: 1 / 0)

    def body(txn: Any) -> None:
        a()
        fails.submit()

    with pytest.raises(ZeroDivisionError):
        in_block(is_async, body)
    assert story.told == ["a", "a undone"]


def test_a_failure_that_an_input_allows_is_asked_for(story: Story) -> None:
    fails, takes = task(lambda: 1 / 0), story.task("takes")
    in_block(False, lambda txn: takes.submit(allow_failure(fails.submit())) and None)
    assert story.told == ["takes", "takes committed"]
    with pytest.raises((ZeroDivisionError, UpstreamTaskError)):
        in_block(False, lambda txn: takes.submit(fails.submit()) and None)


def test_runs_that_have_not_begun_are_cancelled_when_the_block_fails(story: Story, recorded: Recorded) -> None:
    began, go_on = threading.Event(), threading.Event()

    def first() -> None:
        began.set()
        go_on.wait(20)

    first_task, second = task(first), story.task("second")

    @flow(task_runner="concurrent:1")
    def around() -> None:
        with transaction():
            first_task.submit()
            began.wait(20)
            second.submit()
            threading.Timer(0.05, go_on.set).start()
            raise ValueError

    with pytest.raises(ValueError):
        around()
    assert story.told == []
    assert recorded.task_states("second")[0][-1] == "Cancelled"
    assert recorded.task_states("first")[0][-1] == "Completed"


def test_a_block_in_async_code_awaits_async_runs(story: Story) -> None:
    @task(on_commit=[story.hook("committed")])
    async def ticks() -> None:
        await asyncio.sleep(0)

    @flow
    async def around() -> None:
        async with transaction() as txn:
            ticks.submit()
            await ticks()
        assert txn.is_committed()

    asyncio.run(around())
    assert story.told == ["committed", "committed"]


# Caching inside.


def test_calls_of_one_transaction_find_what_is_staged_in_it_and_others_do_not(recorded: Recorded) -> None:
    ran, outside = [], []
    cached = task(lambda x: ran.append(x) or x, name="cached", cache_policy=INPUTS.configure(isolation_level=None))

    def body(txn: Any) -> None:
        cached(1)
        assert cached(1, return_state=True).name == "Cached"
        outside.append(recorded.store.results())
        raise ValueError

    with pytest.raises(ValueError):
        in_block(False, body)
    assert ran == [1]
    assert outside == [[]]
    with pytest.raises(ValueError):
        in_block(False, body)
    assert ran == [1, 1]
    in_block(False, lambda txn: cached(1) + cached(1))
    cached(1)
    assert ran == [1, 1, 1]
    assert [recorded.store.kept(row.key) is not None for row in recorded.task_runs("cached")][-3:] == [True] * 3


def test_many_calls_of_one_key_in_one_block_do_not_wait_for_its_end() -> None:
    ran = []
    policy = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)
    cached = task(lambda x: ran.append(x) or x, cache_policy=policy)

    @flow(task_runner="concurrent:2")
    def around() -> Any:
        with transaction():
            return cached.map([1, 2] * 20).result()

    assert around() == [1, 2] * 20
    assert sorted(ran) == [1, 2]
    assert turns._turns == {}


def test_others_wait_for_the_end_of_a_transaction_that_has_the_key() -> None:
    ran = []
    policy = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)
    cached = task(lambda x: ran.append(x) or x, cache_policy=policy)
    staged, is_waiting = threading.Event(), threading.Event()

    @flow
    def second() -> Any:
        staged.wait(20)
        future = cached.submit(1)
        is_waiting.set()
        return future.result()

    @flow
    def first() -> None:
        with transaction():
            cached(1)
            staged.set()
            is_waiting.wait(20)

    other = threading.Thread(target=second)
    other.start()
    first()
    other.join(20)
    assert ran == [1]


def test_objects_are_written_only_by_the_commit(recorded: Recorded, tmp_path: Path) -> None:
    big = task(lambda: b"x" * 100_000, name="big", persist_result=True, result_storage=tmp_path)

    def body(txn: Any) -> None:
        assert big.with_options(cache_result_in_memory=False)() == b"x" * 100_000
        assert list(tmp_path.iterdir()) == []

    in_block(False, body)
    assert [path.stat().st_size > 100_000 for path in tmp_path.rglob("*") if path.is_file()] == [True]
    row = recorded.store.kept(recorded.task_runs("big")[0].key)
    assert row is not None
    assert row.result.size > 100_000


def test_a_full_disk_at_the_commit_leaves_nothing(
    story: Story, recorded: Recorded, tmp_path: Path, monkeypatch
) -> None:
    a, b = (story.task(name, result_storage=tmp_path) for name in "ab")
    write = LocalStorage.write

    def full(self: LocalStorage, key: str, pieces: Any) -> Any:
        if any(path.is_file() for path in tmp_path.rglob("*")):
            raise StorageError("no space left")
        return write(self, key, pieces)

    monkeypatch.setattr(LocalStorage, "write", full)
    in_block(False, lambda txn: a(1) and b(2))
    assert story.told[-2:] == ["b undone", "a undone"]
    assert recorded.store.results() == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_retried_flow_runs_again_what_was_rolled_back_and_takes_over_what_was_committed(recorded: Recorded) -> None:
    ran = _ran
    ran.clear()
    stored = task(lambda name: _ran.append(name), name="stored", persist_result=True)

    @flow(retries=1, final_state_from="return_value")
    def twice() -> int:
        with transaction():
            stored("committed")
        with transaction():
            stored("rolled back")
            if len(ran) < 3:
                raise ValueError
        return 1

    twice()
    assert ran == ["committed", "rolled back", "rolled back"]
    assert recorded.unfinished() == []


# Keys.


@BY_BOTH
def test_a_value_that_was_committed_under_a_key_is_read_by_the_next(is_async: bool) -> None:
    computed = []

    def body(txn: Any) -> Any:
        if not txn.is_committed():
            computed.append(1)
            txn.stage({"rows": 5})
        return txn.read()

    assert [in_block(is_async, body, key="report") for _ in range(3)] == [{"rows": 5}] * 3
    assert computed == [1]
    in_block(is_async, body, key="report", overwrite=True)
    assert computed == [1, 1]
    in_block(is_async, body, key="other", write_on_commit=False)
    in_block(is_async, body, key="other")
    assert len(computed) == 4


def test_a_key_may_stand_in_a_place_that_histories_share(tmp_path: Path) -> None:
    from tests.unit.recorded import in_memory

    def value(store: Any, new: Any) -> Any:
        with in_memory(), transaction(key="../report", store=store) as txn:
            if not txn.is_committed():
                txn.stage(new)
            return txn.read()

    assert [value(tmp_path, 1), value(str(tmp_path), 2), value(ResultStore(tmp_path, "json"), 3)] == [1, 1, 1]
    assert not list(tmp_path.parent.glob("report*"))


def test_of_two_that_are_serializable_the_second_reads_what_the_first_wrote() -> None:
    first_is_in, seen = threading.Event(), []

    def first() -> None:
        with transaction(key="k", isolation_level=IsolationLevel.SERIALIZABLE) as txn:
            first_is_in.set()
            txn.stage("first")

    def second() -> None:
        first_is_in.wait(20)
        with transaction(key="k", isolation_level=IsolationLevel.SERIALIZABLE) as txn:
            seen.append((txn.is_committed(), txn.read()))

    threads = [threading.Thread(target=second), threading.Thread(target=first)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen == [(True, "first")]
    assert turns._turns == {}


def test_a_store_brings_its_own_locks() -> None:
    locks = MemoryLockManager()
    with transaction(
        key="own", store=ResultStore(lock_manager=locks), isolation_level=IsolationLevel.SERIALIZABLE
    ) as txn:
        assert locks.is_locked("own")
        txn.stage(1)
    assert not locks.is_locked("own")


def test_a_value_that_can_not_be_stored_rolls_back_with_a_reason(caplog) -> None:
    with transaction(key="k") as txn:
        txn.stage(threading.Lock())
    assert txn.is_rolled_back()
    (error,) = {record.exc_info[1] for record in caplog.records if record.exc_info}
    assert isinstance(error, SerializationError)
    assert "Encountered an error while serializing result for transaction 'k'" in str(error)


def test_lines_go_to_the_logger_that_was_given(caplog) -> None:
    caplog.set_level(logging.INFO)
    with transaction(logger=logging.getLogger("mine")) as txn:
        txn.stage(1, on_commit_hooks=[lambda txn: None])
    assert {record.name for record in caplog.records} == {"mine"}


# The faces.


def test_a_transaction_goes_through_its_states() -> None:
    txn = transaction(key="k")
    states = [txn.state]
    with txn:
        states.append(txn.state)
        txn.stage(1)
        states.append(txn.state)
    states.append(txn.state)
    assert states == [
        TransactionState.PENDING,
        TransactionState.ACTIVE,
        TransactionState.STAGED,
        TransactionState.COMMITTED,
    ]
    assert (txn.is_pending(), txn.is_active(), txn.is_staged(), txn.is_committed()) == (False, False, False, True)


def test_there_is_no_transaction_outside() -> None:
    assert get_transaction() is None
    with transaction() as outer:
        assert get_transaction() is outer
        with transaction() as inner:
            assert get_transaction() is inner
        assert get_transaction() is outer
        # Inside another run, it is that run's.
        assert flow(lambda: task(lambda: get_transaction())() is outer)() is False
    assert get_transaction() is None


def test_a_context_can_not_be_entered_twice() -> None:
    with transaction() as txn, pytest.raises(RuntimeError, match="Context already entered"):
        txn.__enter__()
    with pytest.raises(RuntimeError, match="Context already entered"):
        txn.__enter__()


def test_an_async_transaction_says_how_it_is_entered() -> None:
    with pytest.raises(TypeError, match="`async with`"), atransaction():
        pass


@pytest.mark.parametrize(
    "options",
    [
        {"key": 1},
        {"commit_mode": "LAZY"},
        {"isolation_level": "SERIALIZABLE"},
        {"store": 5, "key": "k"},
        {"unknown": 1},
    ],
)
def test_what_can_not_work_is_refused(options: Any) -> None:
    with pytest.raises(TypeError):
        transaction(**options)
    with pytest.raises(TypeError):
        atransaction(**options)


def test_modes_and_levels_are_inherited() -> None:
    with (
        transaction(commit_mode=CommitMode.OFF, isolation_level=IsolationLevel.SERIALIZABLE) as outer,
        transaction() as inner,
    ):
        assert (inner.commit_mode, inner.isolation_level) == (outer.commit_mode, outer.isolation_level)
    with transaction() as plain:
        assert (plain.commit_mode, plain.isolation_level) == (CommitMode.LAZY, IsolationLevel.READ_COMMITTED)
