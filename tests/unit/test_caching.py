"""Cached results: when an earlier one stands for a call, when not, and what is said of both."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from prefect_core import flow, task, unmapped
from prefect_core.cache_policies import INPUTS, NO_CACHE, RUN_ID, TASK_SOURCE, IsolationLevel
from prefect_core.errors import StorageError
from prefect_core.locking import LockManager, turns
from prefect_core.settings import temporary_settings
from prefect_core.storage.local import LocalStorage
from prefect_core.testing import FakeClock
from tests.unit.recorded import Recorded, in_memory

SERIALIZABLE = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE)
pytestmark = pytest.mark.usefixtures("recorded")


_numbers = itertools.count()
_ran: defaultdict[int, list[Any]] = defaultdict(list)


class Counting:
    """A task that counts the calls of its body."""

    def __init__(self, **options: Any) -> None:
        number = next(_numbers)
        # Not in the closure: by that a local function is told from others.
        self.ran = _ran[number]

        def double(x: Any) -> Any:
            _ran[number].append(x)
            return [x, x]

        self.task: Any = task(double, name="double", **options)


def test_a_second_call_with_the_same_inputs_is_not_run(recorded: Recorded) -> None:
    double = Counting(cache_policy=INPUTS)

    @flow
    def calls() -> Any:
        first, second = double.task(1, return_state=True), double.task(1, return_state=True)
        assert double.task(2) == [2, 2]
        return first.name, second.name, second.is_completed(), second.result()

    assert calls() == ("Completed", "Cached", True, [1, 1])
    assert double.ran == [1, 2]
    assert recorded.task_states("double")[1] == ["Pending", "Cached"]


def test_runs_of_other_flows_and_calls_outside_of_flows_find_it_too() -> None:
    double = Counting(cache_policy=INPUTS)
    assert flow(lambda: double.task(1))() == flow(lambda: double.task(1))() == double.task(1) == [1, 1]
    assert double.ran == [1]


def test_the_run_id_keeps_flow_runs_apart() -> None:
    double = Counting(cache_policy=INPUTS + RUN_ID)

    @flow
    def calls() -> Any:
        double.task(1)
        double.task(1)

    calls()
    calls()
    assert double.ran == [1, 1]


def test_without_a_policy_equal_calls_all_run() -> None:
    stored, uncached = Counting(persist_result=True), Counting(cache_policy=NO_CACHE)
    for _ in range(2):
        stored.task(1)
        uncached.task(1)
    assert (stored.ran, uncached.ran) == ([1, 1], [1, 1])


def test_each_hit_is_a_value_of_its_own() -> None:
    double = Counting(cache_policy=INPUTS)
    double.task(1).append("changed by whoever got it")
    assert double.task(1) == [1, 1]


def test_a_changed_body_is_another_result_where_the_policy_says_so() -> None:
    values = []
    for body in (lambda x: x + 1, lambda x: x + 2):
        named = task(body, name="t", cache_policy=INPUTS + TASK_SOURCE)
        values += [named(1), named(1)]
    assert values == [2, 2, 3, 3]


def test_inputs_that_are_futures_count_by_their_values() -> None:
    double = Counting(cache_policy=INPUTS)
    source = task(lambda: 4)

    @flow
    def calls() -> Any:
        return double.task.submit(source.submit()).result(), double.task.submit(source()).result()

    assert calls() == ([4, 4], [4, 4])
    assert double.ran == [4]


def test_completion_hooks_are_called_for_a_hit_and_running_hooks_not() -> None:
    called = []
    double = Counting(
        cache_policy=INPUTS,
        on_completion=[lambda task, run, state: called.append(state.name)],
        on_running=[lambda task, run, state: called.append(state.name)],
    )
    double.task(1)
    double.task(1)
    assert called == ["Running", "Completed", "Cached"]


def test_a_hit_refers_to_the_result_it_found(recorded: Recorded) -> None:
    double = Counting(cache_policy=INPUTS)
    for _ in range(2):
        flow(lambda: double.task(1))()
    first, second = [recorded.store.kept(row.key) for row in recorded.task_runs("double")]
    assert first is not None
    assert second is not None
    assert first.result == second.result
    assert len(recorded.store.results()) == 1


def test_what_was_decided_is_recorded(recorded: Recorded) -> None:
    double = Counting(cache_policy=INPUTS)
    for _ in range(2):
        flow(lambda: double.task(1))()
    double.task.with_options(refresh_cache=True)(1)
    assert recorded.verdicts("double") == [
        ("not cached", "nothing was found under its cache key"),
        ("cached", "a result was found under its cache key, computed by 'double-0'"),
        ("not cached", "it is to be refreshed"),
    ]


def test_refresh_runs_the_body_and_replaces_the_result() -> None:
    number = next(_numbers)

    def count(x: int) -> int:
        _ran[number].append(x)
        return len(_ran[number]) - 1

    counted = task(count, name="counted", cache_policy=INPUTS)
    assert [counted(1), counted(1)] == [0, 0]
    assert counted.with_options(refresh_cache=True)(1) == 1
    assert counted(1) == 1
    with temporary_settings(tasks_refresh_cache=True):
        assert counted(1) == 2


def test_an_expired_result_is_computed_anew(recorded: Recorded) -> None:
    with FakeClock() as clock:
        double = Counting(cache_policy=INPUTS, cache_expiration=timedelta(minutes=5))
        double.task(1)
        clock.advance(299)
        double.task(1)
        clock.advance(1)
        double.task(1)
        double.task(1)
    assert double.ran == [1, 1]
    verdicts = recorded.verdicts("double")
    assert [verdict for verdict, _ in verdicts] == ["not cached", "cached", "not cached", "cached"]
    assert "expired at" in verdicts[2][1]


def test_a_failure_is_not_cached() -> None:
    ran = []

    def fails(x: int) -> None:
        ran.append(x)
        raise ValueError(x)

    failing = task(fails, cache_policy=INPUTS)
    for _ in range(2):
        with pytest.raises(ValueError):
            failing(1)
    assert ran == [1, 1]


def test_retries_ask_the_cache_once_and_keep_what_succeeded() -> None:
    number = next(_numbers)

    def flaky(x: int) -> int:
        _ran[number].append(x)
        if len(_ran[number]) < 3:
            raise ValueError
        return x

    retried = task(flaky, cache_policy=SERIALIZABLE, retries=2)
    assert retried(1) == retried(1) == 1
    assert len(_ran[number]) == 3


@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_a_damaged_or_missing_object_is_noticed_told_once_and_replaced(
    recorded: Recorded, tmp_path: Path, harm: str, caplog
) -> None:
    double = Counting(cache_policy=INPUTS, result_storage=tmp_path)
    double.task(1)
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    content = path.read_bytes()
    path.unlink()
    if harm != "gone":
        path.write_bytes(content[:-3] if harm == "cut" else bytes([content[0] ^ 1]) + content[1:])
    assert double.task(1) == [1, 1]
    assert double.ran == [1, 1]
    told = [record for record in caplog.records if "The cached result can't be used" in record.message]
    assert len(told) == 1
    assert double.task(1) == [1, 1]
    assert double.ran == [1, 1]
    assert "what was found under its cache key can't be used" in recorded.verdicts("double")[1][1]


def test_a_template_names_the_object_of_a_cached_result(tmp_path: Path) -> None:
    double = Counting(cache_policy=INPUTS, result_storage=tmp_path, result_storage_key="of-{parameters[x]}.pickle")
    double.task(7)
    assert [path.name for path in tmp_path.iterdir()] == ["of-7.pickle"]
    assert double.task(7) == [7, 7]
    assert double.ran == [7]


def test_a_value_need_not_stay_in_memory() -> None:
    double = Counting(cache_policy=INPUTS, cache_result_in_memory=False)
    assert double.task(1) == double.task(1) == [1, 1]
    assert double.ran == [1]


def test_async_tasks_are_cached_alike() -> None:
    number = next(_numbers)

    async def body(x: int) -> int:
        _ran[number].append(x)
        return x

    cached = task(body, cache_policy=SERIALIZABLE)

    @flow
    async def calls() -> Any:
        await cached(1)
        return await asyncio.gather(*(cached.submit(n % 2) for n in range(10)))

    assert asyncio.run(calls()) == [0, 1] * 5
    assert sorted(_ran[number]) == [0, 1]


# Keys in a storage.


def test_processes_with_other_histories_find_keys_in_a_storage(tmp_path: Path) -> None:
    double = Counting(cache_policy=INPUTS.configure(key_storage=tmp_path / "keys"), result_storage=tmp_path / "values")
    for _ in range(2):
        with in_memory() as other:
            assert flow(lambda: double.task(1))() == [1, 1]
            assert flow(lambda: double.task(1))() == [1, 1]
            other.recorder.flush()
            # The object is one result, however often it is found.
            assert len(other.store.results()) == 1
    assert double.ran == [1]
    assert len(list((tmp_path / "keys").iterdir())) == 1


def test_a_damaged_key_is_noticed_and_replaced(tmp_path: Path, caplog) -> None:
    double = Counting(cache_policy=INPUTS.configure(key_storage=tmp_path / "keys"), result_storage=tmp_path / "values")
    double.task(1)
    (path,) = (tmp_path / "keys").iterdir()
    sound = path.read_text()
    for damaged in (sound[:-9], sound.replace('"expires_us": null', '"expires_us": 9'), "[]", ""):
        path.write_text(damaged)
        before = len(double.ran)
        assert double.task(1) == [1, 1]
        assert len(double.ran) == before + 1
        assert double.task(1) == [1, 1]
        assert len(double.ran) == before + 1
    assert "is damaged" in caplog.text


def test_a_key_storage_that_can_not_be_written_harms_no_run(tmp_path: Path, monkeypatch, caplog) -> None:
    double = Counting(cache_policy=INPUTS.configure(key_storage=tmp_path / "keys"), result_storage=tmp_path / "values")
    write = LocalStorage.write

    def refused(self: LocalStorage, key: str, pieces: Any) -> Any:
        if self.root.name == "keys":
            raise StorageError("no space left")
        return write(self, key, pieces)

    monkeypatch.setattr(LocalStorage, "write", refused)
    assert double.task(1) == double.task(1) == [1, 1]
    assert double.ran == [1, 1]
    assert "The cache key could not be stored: StorageError: no space left" in caplog.text


def test_a_key_may_be_any_text_in_a_storage(tmp_path: Path) -> None:
    for strange in ("../../etc/passwd", "/abs", "a\0b", "x" * 10_000, "\ud800"):
        ran = []
        policy = NO_CACHE.from_cache_key_fn(lambda *_, key=strange: key).configure(key_storage=tmp_path / "keys")
        cached = task(lambda: ran.append(1), cache_policy=policy, result_storage=tmp_path / "values")
        cached()
        cached()
        assert ran == [1], strange
    assert {path.parent for path in tmp_path.rglob("*.json")} == {tmp_path / "keys"}


# One at a time.


def test_of_a_hundred_submitted_calls_with_one_key_one_runs_even_with_one_place() -> None:
    double = Counting(cache_policy=SERIALIZABLE)

    @flow(task_runner="concurrent:1")
    def calls() -> Any:
        return [future.result() for future in double.task.map([3] * 100)]

    assert calls() == [[3, 3]] * 100
    assert double.ran == [3]


def test_a_waiting_call_gives_its_place_back_inside_a_task() -> None:
    double = Counting(cache_policy=SERIALIZABLE)
    outer = task(lambda x: double.task(x) + double.task.submit(x).result())

    @flow(task_runner="concurrent:1")
    def calls() -> Any:
        return outer.map([3] * 20).result()

    assert calls() == [[3, 3, 3, 3]] * 20
    assert double.ran == [3]


def test_calls_at_once_all_run_unless_they_are_to_wait() -> None:
    barrier = threading.Barrier(2, timeout=20)
    met = task(lambda x: barrier.wait() * 0 + x, cache_policy=INPUTS)

    @flow
    def calls() -> Any:
        return met.map([1, 1]).result()

    assert calls() == [1, 1]


def test_the_next_one_runs_when_the_first_has_failed() -> None:
    ran = []

    def once(x: int) -> int:
        ran.append(x)
        if len(ran) == 1:
            raise ValueError
        return x

    cached = task(once, cache_policy=SERIALIZABLE)

    @flow(final_state_from="return_value")
    def calls() -> Any:
        return [future.result(raise_on_failure=False) for future in cached.map([1] * 5)].count(1)

    assert calls() == 4
    assert len(ran) == 2
    assert turns._turns == {}


def test_a_task_that_calls_itself_under_one_key_does_not_wait_for_itself() -> None:
    def deeper(depth: int) -> int:
        return depth if depth == 0 else nested(depth - 1) + 1

    nested: Any = task(
        deeper,
        cache_policy=NO_CACHE.from_cache_key_fn(lambda *_: "one").configure(
            isolation_level=IsolationLevel.SERIALIZABLE
        ),
    )
    assert nested(3) == 3


def test_locks_of_ones_own_are_asked(recorded: Recorded) -> None:
    class Mine(LockManager):
        def __init__(self) -> None:
            self.calls: list[str] = []
            self.refusals = 2

        def acquire_lock(self, key: str, holder: str, acquire_timeout: Any = None, hold_timeout: Any = None) -> bool:
            self.calls.append("acquire")
            self.refusals -= 1
            return self.refusals < 0

        def release_lock(self, key: str, holder: str) -> None:
            self.calls.append("release")

        def is_locked(self, key: str) -> bool:
            return False

        def is_lock_holder(self, key: str, holder: str) -> bool:
            return False

        def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
            return True

    mine = Mine()
    double = Counting(cache_policy=SERIALIZABLE.configure(lock_manager=mine))
    double.task(1)
    assert mine.calls == ["acquire", "acquire", "acquire", "release"]
    double.task(1)
    assert len(mine.calls) == 4
    assert recorded.store.locks().find("anything") is None


def test_locks_that_can_not_be_had_fail_the_task_with_the_reason(caplog) -> None:
    class Broken:
        def acquire_lock(self, *_: Any, **__: Any) -> bool:
            raise OSError("the lock server is gone")

    double = Counting(cache_policy=SERIALIZABLE.configure(lock_manager=Broken()))
    with pytest.raises(OSError, match="the lock server is gone"):
        double.task(1)
    assert double.ran == []
    assert turns._turns == {}


# With identity, retries of flows and runners.


def test_a_retried_flow_takes_over_by_identity_before_it_asks_the_cache(recorded: Recorded) -> None:
    double = Counting(cache_policy=INPUTS)
    tries = []

    @flow(retries=1)
    def calls() -> None:
        double.task(1)
        tries.append(1)
        if len(tries) == 1:
            raise ValueError

    calls()
    assert double.ran == [1]
    assert [verdict for verdict, _ in recorded.verdicts("double")] == ["not cached", "taken over"]


def test_an_upstream_that_is_cached_keeps_its_dependents_taken_over() -> None:
    double = Counting(cache_policy=INPUTS)
    dependent = Counting(persist_result=True)
    tries = []

    @flow(retries=1)
    def calls() -> None:
        dependent.task.submit(double.task.submit(1)).result()
        tries.append(1)
        if len(tries) == 1:
            raise ValueError

    double.task(1)
    calls()
    assert double.ran == [1]
    assert len(dependent.ran) == 1


@pytest.mark.parametrize("runner", ["sequential", "concurrent:2"])
def test_every_runner_finds_the_same(runner: str, caplog) -> None:
    caplog.set_level(logging.ERROR)
    double = Counting(cache_policy=SERIALIZABLE)
    plus = task(lambda pair, n: sum(pair) + n, cache_policy=INPUTS)

    @flow(task_runner=runner)
    def calls() -> Any:
        return plus.map(double.task.map([1, 2, 1]), unmapped(1)).result()

    assert calls() == calls() == [3, 5, 3]
    assert sorted(double.ran) == [1, 2]
    assert not caplog.records
