"""What becomes of stored results, the same in every store: who refers to them, and what goes when they or their runs go."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from prefect_core import clock
from prefect_core.errors import NotRunnableAgain
from prefect_core.history.housekeeping import ResultStats
from prefect_core.history.memory import MemoryStore
from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.history.store import HistoryStore
from prefect_core.history.stored import DoomedRow, Holders
from prefect_core.history.verdicts import DROPPED
from prefect_core.runs import FlowRun, Run, TaskRun
from prefect_core.state_kinds import COMPLETED, FAILED, RUNNING
from tests.contract.history_runs import KINDS, begin_flow_run, begin_task_run, enter, go_through

STORAGE = "file:///storage"


class Kept:
    """A history with two flow runs: one that ended with three task runs in it, and one that is under way with one."""

    def __init__(self, store: HistoryStore) -> None:
        self.store = store
        self.recorder = StoreRecorder(store)
        self.first, self.loads = self._flow_run("calm-otter", 3)
        enter(self.recorder, self.first, FAILED)
        self.second, [self.other] = self._flow_run("late-newt", 1)
        self.recorder.flush()

    def _flow_run(self, name: str, tasks: int) -> tuple[FlowRun, list[TaskRun]]:
        flow_run = begin_flow_run(self.recorder, name)
        enter(self.recorder, flow_run, RUNNING)
        runs = [begin_task_run(self.recorder, flow_run, "load", index) for index in range(tasks)]
        for run in runs:
            go_through(self.recorder, run, [RUNNING, COMPLETED])
        return flow_run, runs

    def end_second(self) -> None:
        enter(self.recorder, self.second, FAILED)
        self.recorder.flush()

    def note(self, *rows: tuple[str, tuple[Any, ...]]) -> None:
        self.recorder.noted(rows)
        self.recorder.flush()

    def result(self, object_key: str | None = None, size: int = 5, **kept_of: Run) -> int:
        """Store a result, as an object if a key is given, with runs that have it."""
        key = self.recorder.new_key()
        place = (None, None, b"bytes") if object_key is None else (STORAGE, object_key, None)
        maker = next((run.key for run in kept_of.values()), None)
        rows = [("result", (key, "pickle", *place, size, b"sum", maker, clock.now_us()))]
        self.note(*rows, *[("kept", (run.key, 1, key, "[]")) for run in kept_of.values()])
        return key

    def results(self) -> set[int]:
        return {row.key for row in self.store.results()}

    def doomed(self) -> list[str]:
        return [row.object for row in self.store.doomed(10)]

    def drop(self, *keys: int, gone: bool | None = False) -> list[int]:
        return self.store.drop_results(keys, "by a test", lambda _: gone)


@pytest.fixture(params=sorted(KINDS))
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    made = Kept(KINDS[request.param](tmp_path))
    yield made
    made.recorder.close()


def test_results_come_newest_first_without_their_bytes(kept: Kept) -> None:
    keys = [kept.result(a=kept.loads[0]), kept.result("one", b=kept.loads[1]), kept.result(c=kept.other)]
    rows = kept.store.results()
    assert [row.key for row in rows] == keys[::-1]
    assert {row.value for row in rows} == {None}
    assert [row.key for row in kept.store.results(limit=2)] == keys[:0:-1]
    assert [row.key for row in kept.store.results(kept.first.key)] == keys[1::-1]
    assert kept.store.results(17) == []


def test_calls_of_one_task_in_one_parent_are_found_in_every_flow_run_of_the_root(kept: Kept) -> None:
    tracking = begin_task_run(kept.recorder, kept.first, "clean")
    child = begin_flow_run(kept.recorder, "quiet-crab", "clean", parent_task_run=tracking)
    inner = begin_task_run(kept.recorder, child, "load")
    at_site = [*kept.loads[:2], inner]
    sites = {run.key: b"site" for run in (*at_site, kept.other)} | {kept.loads[2].key: b"elsewhere"}
    kept.note(
        *[("identity", (run, bytes([run % 256]), site, "{}", 0, None, None, None)) for run, site in sites.items()]
    )
    found = kept.store.calls_at(kept.first.key, b"site", clock.now_us() + 1)
    assert [one.run for one in found] == [run.key for run in at_site]
    before_us = kept.loads[1].created_us
    assert [one.run for one in kept.store.calls_at(kept.first.key, b"site", before_us)] == [kept.loads[0].key]


def test_results_of_a_flow_run_are_also_its_own_its_parameters_and_those_of_its_subflows(kept: Kept) -> None:
    tracking = begin_task_run(kept.recorder, kept.first, "clean")
    child = begin_flow_run(kept.recorder, "quiet-crab", "clean", parent_task_run=tracking)
    inner = begin_task_run(kept.recorder, child, "wipe")
    keys = {kept.result(a=kept.first), kept.result(a=tracking, b=child), kept.result(a=inner), kept.result()}
    kept.note(("unheld", (kept.first.key, '["x"]', max(keys))))
    assert {row.key for row in kept.store.results(kept.first.key)} == keys


def test_holders_are_runs_parameters_and_cache_keys(kept: Kept) -> None:
    shared, lonely = kept.result(a=kept.loads[1], b=kept.loads[0]), kept.result()
    kept.note(("unheld", (kept.first.key, '["x"]', shared)), ("cache", ("k", shared, kept.loads[0].key, None, 1)))
    assert kept.store.holders([shared, lonely]) == {
        shared: Holders((kept.loads[0].key, kept.loads[1].key), (kept.first.key,), ("k",)),
        lonely: Holders((), (), ()),
    }


def test_results_and_their_bytes_are_counted(kept: Kept) -> None:
    assert kept.store.result_stats() == ResultStats(0, 0, 0, 0)
    kept.result(size=5, a=kept.loads[0])
    kept.result("one", size=100, a=kept.loads[1])
    doomed = kept.result("two", size=100, a=kept.loads[2])
    assert kept.store.result_stats() == ResultStats(3, 205, 5, 0)
    assert kept.store.stats().rows["result"] == 3
    kept.drop(doomed)
    assert kept.store.result_stats() == ResultStats(2, 105, 5, 1)


def test_a_result_goes_with_the_last_run_that_has_it(kept: Kept) -> None:
    kept.end_second()
    shared = kept.result("shared", a=kept.loads[0], b=kept.other)
    own = kept.result("own", a=kept.loads[1])
    kept.store.delete_flow_run(kept.first.key)
    assert (kept.results(), kept.doomed()) == ({shared}, ["own"])
    assert kept.store.kept(kept.loads[0].key) is None
    assert kept.store.kept(kept.other.key).result.key == shared
    kept.store.delete_flow_run(kept.second.key)
    assert (kept.results(), kept.doomed()) == (set(), ["own", "shared"])
    assert own not in kept.results()
    assert kept.store.check() == []


def test_pruning_runs_drops_their_results(kept: Kept) -> None:
    kept.result("own", a=kept.loads[1])
    alone = begin_task_run(kept.recorder, None, "ping")
    go_through(kept.recorder, alone, [RUNNING, COMPLETED])
    kept.result("alone", a=alone)
    stays = kept.result("other", a=kept.other)
    assert kept.store.prune(clock.now_us() + 10) == 5
    assert (kept.results(), kept.doomed()) == ({stays}, ["alone", "own"])
    assert kept.store.check() == []


def test_all_that_is_known_of_a_run_goes_with_it(kept: Kept) -> None:
    run = kept.loads[0]
    key = kept.result(a=run)
    kept.note(
        ("identity", (run.key, b"id", b"site", "{}", 0, None, None, None)),
        ("verdict", (run.key, 1, "runs again", "so")),
        ("unheld", (kept.first.key, '["x"]', key)),
        ("cache", ("k", key, run.key, None, 1)),
    )
    kept.store.delete_flow_run(kept.first.key)
    assert kept.store.identity(run.key) is None
    assert kept.store.verdicts(run.key) == []
    assert kept.store.unheld(kept.first.key) is None
    assert kept.store.cached("k") is None
    assert (kept.results(), kept.doomed()) == (set(), [])
    assert kept.store.check() == []


def test_a_cache_key_stays_with_a_run_that_has_its_result(kept: Kept) -> None:
    key = kept.result(a=kept.loads[0], b=kept.other)
    kept.note(("cache", ("k", key, kept.loads[0].key, None, 1)))
    kept.store.delete_flow_run(kept.first.key)
    cached = kept.store.cached("k")
    assert cached is not None
    assert (cached.run, cached.result.key) == (kept.other.key, key)
    assert kept.store.check() == []


def test_a_cache_key_alone_holds_its_result(kept: Kept) -> None:
    key = kept.result()
    kept.note(("cache", ("k", key, kept.loads[0].key, None, 1)))
    assert kept.store.unreferenced_results(clock.now_us() + 1) == []
    kept.note(("cache", ("k", kept.result(), kept.loads[0].key, None, 1)))
    assert key not in kept.results()


@pytest.mark.parametrize("table", ["kept", "cache", "unheld"])
def test_a_result_that_is_replaced_goes_with_its_last_reference(kept: Kept, table: str) -> None:
    run = kept.loads[0].key

    def refer(result: int) -> None:
        rows = {"kept": (run, 1, result, "[]"), "cache": ("k", result, run, None, 1), "unheld": (run, "[]", result)}
        kept.note((table, rows[table]))

    first, second = kept.result("first"), kept.result("second")
    refer(first)
    refer(first)
    assert kept.doomed() == []
    refer(second)
    assert (kept.results(), kept.doomed()) == ({second}, ["first"])


def test_a_result_stays_with_whoever_has_it_when_the_run_that_made_it_has_another(kept: Kept) -> None:
    maker, other = kept.loads[0], kept.other
    shared = kept.result("shared", a=maker, b=other)
    newer = kept.result("newer", a=maker)
    assert kept.store.holders([shared, newer]) == {
        shared: Holders((other.key,), (), ()),
        newer: Holders((maker.key,), (), ()),
    }
    kept.note(("kept", (maker.key, 3, shared, "[]")), ("kept", (other.key, 2, newer, "[]")))
    assert (kept.results(), kept.doomed()) == ({shared}, ["newer"])
    assert kept.store.holders([shared])[shared].runs == (maker.key,)
    assert kept.store.check() == []


def test_a_result_is_written_before_what_refers_to_it_whatever_the_order(kept: Kept) -> None:
    before = kept.result("first", a=kept.loads[0])
    key, run = kept.recorder.new_key(), kept.loads[0].key
    kept.note(
        ("kept", (run, 2, key, "[]")),
        ("result", (key, "pickle", STORAGE, "first", None, 5, b"sum", run, clock.now_us())),
    )
    assert kept.results() == {key}
    # Both were the same object, which is the new one's now.
    assert kept.doomed() == []
    assert before not in kept.results()


@pytest.mark.parametrize("table", ["kept", "cache"])
def test_what_refers_to_a_result_that_is_gone_is_not_written(kept: Kept, table: str) -> None:
    run, stays = kept.loads[0].key, kept.result(a=kept.loads[1])
    old = kept.result("old")
    missing = kept.recorder.new_key()
    rows = {
        "kept": [(run, 1, old, "[]"), (run, 2, missing, "[]"), (kept.loads[2].key, 1, stays, "[]")],
        "cache": [("k", old, run, None, 1), ("k", missing, run, None, 1), ("l", stays, run, None, 1)],
    }[table]
    kept.note((table, rows[0]))
    kept.note((table, rows[1]), (table, rows[2]))
    assert kept.store.check() == []
    assert kept.store.kept(run) is None
    assert kept.store.cached("k") is None
    assert (kept.results(), kept.doomed()) == ({stays}, ["old"])
    assert kept.store.holders([stays])[stays] == (
        Holders((kept.loads[1].key, kept.loads[2].key), (), ())
        if table == "kept"
        else Holders((kept.loads[1].key,), (), ("l",))
    )


def test_an_object_that_another_result_names_is_not_doomed(kept: Kept) -> None:
    first, second = kept.result("same", a=kept.loads[0]), kept.result("same", a=kept.loads[1])
    kept.drop(first)
    assert (kept.results(), kept.doomed()) == ({second}, [])
    assert kept.store.named_objects(STORAGE, ["same", "other"]) == {"same"}
    assert kept.store.named_objects("file:///elsewhere", ["same"]) == set()
    kept.drop(second)
    assert kept.doomed() == ["same"]


def test_an_object_of_another_history_is_not_doomed(kept: Kept) -> None:
    borrowed, own = kept.result("theirs", a=kept.loads[0]), kept.result("ours", a=kept.loads[1])
    kept.note(("borrowed", (borrowed,)))
    kept.drop(borrowed, own)
    assert kept.doomed() == ["ours"]
    assert kept.store.check() == []


def test_the_value_of_a_transaction_outside_of_all_runs_belongs_to_its_key(kept: Kept) -> None:
    key = kept.result("own")
    kept.note(("cache", ("k", key, 0, None, 1)))
    kept.store.delete_flow_run(kept.first.key)
    assert kept.store.check() == []
    assert kept.results() == {key}
    assert kept.drop(key) == [key]
    assert (kept.store.cached("k"), kept.doomed()) == (None, ["own"])


def test_dropping_results_leaves_their_runs_and_says_why(kept: Kept) -> None:
    shared = kept.result("shared", a=kept.loads[0], b=kept.loads[1])
    held = kept.result()
    kept.note(("unheld", (kept.first.key, '["x"]', held)), ("cache", ("k", shared, kept.loads[0].key, None, 1)))
    assert kept.drop(shared, held, 17) == [shared, held]
    assert (kept.results(), kept.doomed()) == (set(), ["shared"])
    assert kept.store.task_run(kept.loads[0].key).state_name == "Completed"
    for run in (kept.loads[0], kept.loads[1], kept.first):
        [verdict] = kept.store.verdicts(run.key)
        assert (verdict.verdict, verdict.reason) == (DROPPED, "by a test")
    assert kept.store.unheld(kept.first.key).result is None
    assert kept.store.unheld(kept.first.key).names == ("x",)
    assert kept.store.kept(kept.loads[0].key) is kept.store.cached("k") is None
    assert kept.store.check() == []


def test_a_flow_run_may_lose_its_value_and_its_parameters_at_once(kept: Kept) -> None:
    both = kept.result(a=kept.first)
    kept.note(("unheld", (kept.first.key, '["x"]', both)))
    assert kept.drop(both) == [both]
    assert [verdict.reason for verdict in kept.store.verdicts(kept.first.key)] == ["by a test", "by a test"]


@pytest.mark.parametrize("gone", [False, None])
def test_results_of_a_flow_run_that_is_under_way_are_in_use(kept: Kept, gone: bool | None) -> None:
    free, in_use, parameters = kept.result(a=kept.loads[0]), kept.result(a=kept.other), kept.result()
    kept.note(("unheld", (kept.second.key, '["x"]', parameters)))
    assert kept.store.results_in_use(lambda _: gone) == {in_use, parameters}
    assert kept.drop(free, in_use, parameters, gone=gone) == [free]
    assert kept.store.results_in_use(lambda _: True) == set()
    assert kept.drop(in_use, gone=True) == [in_use]
    kept.end_second()
    assert kept.store.results_in_use(lambda _: gone) == set()


def test_doomed_objects_stay_listed_until_they_are_forgotten(kept: Kept) -> None:
    created = [kept.store.result(kept.result(name, a=kept.loads[0])).created_us for name in ("a", "b", "c")]
    rows = [DoomedRow(STORAGE, name, at_us) for name, at_us in zip("ab", created, strict=False)]
    assert kept.store.doomed(10) == rows
    assert kept.store.doomed(1) == rows[:1]
    assert kept.store.doomed(10, [STORAGE]) == []
    assert kept.store.result_storages() == [STORAGE]
    kept.store.forget_doomed([rows[0]._replace(written_us=1), rows[1]])
    assert kept.store.doomed(10) == rows[:1]
    kept.store.forget_doomed(rows)
    assert kept.store.doomed(10) == []


def test_an_object_that_is_doomed_twice_is_doomed_with_its_last_moment(kept: Kept) -> None:
    moments = []
    for _ in range(2):
        key = kept.result("a", a=kept.loads[0])
        moments.append(kept.store.result(key).created_us)
        kept.drop(key)
    assert kept.store.doomed(10) == [DoomedRow(STORAGE, "a", moments[1])]


def test_results_that_nothing_refers_to_are_found_when_they_are_old(kept: Kept) -> None:
    loose = kept.result("loose")
    kept.result(a=kept.loads[0])
    assert kept.store.unreferenced_results(clock.now_us() + 1) == [loose]
    assert kept.store.unreferenced_results(kept.store.result(loose).created_us) == []
    assert kept.drop(loose) == [loose]
    assert kept.doomed() == ["loose"]


def test_many_results_are_dropped_in_steps(kept: Kept) -> None:
    keys = [kept.recorder.new_key() for _ in range(5_000)]
    kept.note(
        *[("result", (key, "pickle", STORAGE, f"o{key}", None, 1, b"", None, clock.now_us())) for key in keys],
        *[("cache", (f"k{key}", key, kept.loads[0].key, None, 1)) for key in keys],
    )
    assert len(kept.store.holders(keys)) == len(keys)
    assert len(kept.store.named_objects(STORAGE, [f"o{key}" for key in keys])) == len(keys)
    if isinstance(kept.store, SqliteStore):
        assert kept.drop(*keys) == keys
        assert len(kept.store.doomed(6_000)) == len(keys)
        assert kept.store.check() == []


def test_a_run_of_a_history_in_memory_is_not_run_again_elsewhere() -> None:
    store = MemoryStore()
    assert store.reopenings(1) == []
    with pytest.raises(NotRunnableAgain, match="memory"):
        store.check_runnable(1, lambda _: True)


def test_both_stores_count_the_same(tmp_path: Path) -> None:
    made = [Kept(make(tmp_path)) for make in KINDS.values()]
    for kept, run in product(made, range(3)):
        kept.result("same", a=kept.loads[run])
    for kept in made:
        kept.store.delete_flow_run(kept.first.key)
    first, second = (kept.store for kept in made)
    assert first.result_stats() == second.result_stats() == ResultStats(0, 0, 0, 1)
    for kept in made:
        kept.recorder.close()
