"""What readers ask of a history, the same in every store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_core.errors import ObjectNotFound
from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.store import HistoryStore, RunFilter
from prefect_core.runs import FlowRun, TaskRun
from prefect_core.state_kinds import COMPLETED, FAILED, RUNNING
from tests.contract.history_runs import KINDS, begin_flow_run, begin_task_run, enter, go_through, run_and_complete


class Sample:
    """Two runs of `etl`, the first with a subflow; one of `report`, still running; a task run outside of flows."""

    def __init__(self, store: HistoryStore) -> None:
        self.store = store
        self.recorder = recorder = StoreRecorder(store)
        self.first = begin_flow_run(recorder, "calm-otter", "etl", tags=frozenset({"prod", "eu"}))
        enter(recorder, self.first, RUNNING)
        self.loads = [
            begin_task_run(recorder, self.first, "load", index, tags=frozenset({f"part{index}"})) for index in range(3)
        ]
        for run, end in zip(self.loads, (COMPLETED, FAILED, COMPLETED), strict=True):
            go_through(recorder, run, [RUNNING, end])
        self.tracking = begin_task_run(recorder, self.first, "clean")
        self.child = begin_flow_run(recorder, "quiet-crab", "clean", parent_task_run=self.tracking)
        self.wipe = begin_task_run(recorder, self.child, "wipe")
        go_through(recorder, self.wipe, [RUNNING, COMPLETED])
        go_through(recorder, self.child, [RUNNING, COMPLETED])
        go_through(recorder, self.tracking, [RUNNING, COMPLETED])
        enter(recorder, self.first, FAILED, message="1/4 states failed.")
        self.second = begin_flow_run(recorder, "late-newt", "etl", tags=frozenset({"prod"}))
        go_through(recorder, self.second, [RUNNING, COMPLETED])
        self.report = begin_flow_run(recorder, "calm-otter", "report")
        enter(recorder, self.report, RUNNING, "Going")
        self.alone = begin_task_run(recorder, None, "ping")
        go_through(recorder, self.alone, [RUNNING, COMPLETED])
        recorder.flush()

    def log(self, run: FlowRun | TaskRun | None, message: str, timestamp_us: int, level: int = 20) -> None:
        self.recorder.logged(run, level, "prefect_core.flow_runs", message, timestamp_us)


@pytest.fixture(params=sorted(KINDS))
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sample]:
    made = Sample(KINDS[request.param](tmp_path))
    yield made
    made.recorder.close()


def flow_run_names(sample: Sample, wanted: RunFilter) -> list[str]:
    return [f"{row.flow_name}/{row.name}" for row in sample.store.flow_runs(wanted)]


def test_flow_runs_come_newest_first(sample: Sample) -> None:
    everything = ["report/calm-otter", "etl/late-newt", "clean/quiet-crab", "etl/calm-otter"]
    assert flow_run_names(sample, RunFilter()) == everything
    assert flow_run_names(sample, RunFilter(limit=2)) == everything[:2]
    assert flow_run_names(sample, RunFilter(limit=2, offset=1)) == everything[1:3]
    assert flow_run_names(sample, RunFilter(offset=3)) == everything[3:]


def test_flow_runs_can_be_chosen(sample: Sample) -> None:
    first, second, report = "etl/calm-otter", "etl/late-newt", "report/calm-otter"
    assert flow_run_names(sample, RunFilter(name="etl")) == [second, first]
    assert flow_run_names(sample, RunFilter(state_types=["FAILED", "RUNNING"])) == [report, first]
    assert flow_run_names(sample, RunFilter(state_names=["Going"])) == [report]
    assert flow_run_names(sample, RunFilter(tags=["prod"])) == [second, first]
    assert flow_run_names(sample, RunFilter(tags=["prod", "eu"])) == [first]
    assert flow_run_names(sample, RunFilter(root_only=True)) == [report, second, first]
    assert flow_run_names(sample, RunFilter(flow_run=sample.first.key)) == ["clean/quiet-crab"]
    assert flow_run_names(sample, RunFilter(since_us=sample.second.created_us)) == [report, second]
    assert flow_run_names(sample, RunFilter(until_us=sample.child.created_us)) == [first]
    assert flow_run_names(sample, RunFilter(name="etl", state_types=["RUNNING"])) == []


def test_a_flow_run_is_found_by_key_id_start_of_id_and_name(sample: Sample) -> None:
    store, run = sample.store, sample.second
    for name in (run.key, str(run.id), run.id.hex, str(run.id).upper(), str(run.id)[:-10], "late-newt"):
        assert store.flow_run(name).key == run.key


def test_of_a_name_given_twice_the_newest_run_is_found(sample: Sample) -> None:
    assert sample.store.flow_run("calm-otter").key == sample.report.key


def test_an_unknown_run_is_an_error_that_names_it(sample: Sample) -> None:
    for name in ("nobody", "00000000", "", 17, "zz" * 40):
        with pytest.raises(ObjectNotFound, match=str(name) or "''"):
            sample.store.flow_run(name)
        with pytest.raises(ObjectNotFound, match=str(name) or "''"):
            sample.store.task_run(name)


def test_a_start_that_several_ids_share_is_an_error_that_shows_some(sample: Sample) -> None:
    with pytest.raises(ObjectNotFound, match=rf"Several flow runs.*{sample.report.id}.*give more"):
        sample.store.flow_run(str(sample.report.id)[:4])


def test_task_runs_can_be_chosen(sample: Sample) -> None:
    def names(wanted: RunFilter) -> list[str]:
        return [row.name for row in sample.store.task_runs(wanted)]

    assert names(RunFilter(flow_run=sample.first.key)) == ["clean-0", "load-2", "load-1", "load-0"]
    assert names(RunFilter(flow_run=sample.first.key, name="load", limit=1)) == ["load-2"]
    assert names(RunFilter(state_types=["FAILED"])) == ["load-1"]
    assert names(RunFilter(tags=["part2"])) == ["load-2"]
    assert names(RunFilter(name="ping")) == ["ping-0"]
    assert len(names(RunFilter())) == 6


def test_a_task_run_is_found_by_its_default_name_and_by_one_of_its_own(sample: Sample) -> None:
    assert sample.store.task_run("load-1").key == sample.loads[1].key
    sample.loads[1].name = "my-load-7"
    sample.recorder.renamed(sample.loads[1])
    sample.recorder.flush()
    assert sample.store.task_run("my-load-7").key == sample.loads[1].key
    with pytest.raises(ObjectNotFound):
        sample.store.task_run("load-1")


def test_task_runs_are_counted_by_state(sample: Sample) -> None:
    assert sample.store.counts_by_state(sample.first.key) == {"Completed": 3, "Failed": 1}
    assert sample.store.counts_by_state(sample.report.key) == {}


def test_task_runs_are_counted_by_worker(store: HistoryStore, recorder: StoreRecorder) -> None:
    flow_run, other = begin_flow_run(recorder), begin_flow_run(recorder)
    for index, worker in enumerate(["host:2", "host:1", "host:2", ""]):
        run = begin_task_run(recorder, flow_run, index=index)
        if worker:
            run_and_complete(recorder, run, worker)
    recorder.flush()
    assert list(store.counts_by_worker(flow_run.key).items()) == [("host:2", 2), ("host:1", 1)]
    assert store.counts_by_worker(other.key) == {}


def test_flows_come_by_name_with_their_newest_run(sample: Sample) -> None:
    rows = [(row.name, row.runs, row.last_run, row.last_state_name) for row in sample.store.flows()]
    assert rows == [
        ("clean", 1, "quiet-crab", "Completed"),
        ("etl", 2, "late-newt", "Completed"),
        ("report", 1, "calm-otter", "Going"),
    ]


def test_log_records_come_in_order_of_time(sample: Sample) -> None:
    sample.log(sample.first, "third", 3_000)
    sample.log(sample.loads[0], "first", 1_000)
    sample.log(sample.wipe, "second", 2_000, level=10)
    sample.log(sample.second, "other", 4_000)
    sample.log(None, "outside", 5_000)
    sample.recorder.flush()

    def messages(key: int | None, *, tree: bool = False, level: int = 0, limit: int | None = None) -> list[str]:
        return [row.message for row in sample.store.logs(key, tree=tree, level=level, limit=limit)]

    assert messages(sample.first.key) == ["third"]
    assert messages(sample.first.key, tree=True) == ["first", "second", "third"]
    assert messages(sample.first.key, tree=True, level=20) == ["first", "third"]
    assert messages(sample.first.key, tree=True, limit=2) == ["first", "second"]
    assert messages(None) == ["outside"]


def test_deleting_a_flow_run_deletes_all_in_it_and_nothing_else(sample: Sample) -> None:
    sample.log(sample.wipe, "gone", 1_000)
    sample.log(sample.second, "kept", 1_000)
    sample.recorder.flush()
    assert sample.store.delete_flow_run(sample.first.key) == 7
    assert flow_run_names(sample, RunFilter()) == ["report/calm-otter", "etl/late-newt"]
    assert [row.name for row in sample.store.task_runs()] == ["ping-0"]
    assert sample.store.states(sample.wipe.key) == sample.store.attempts(sample.wipe.key) == []
    rows = sample.store.stats().rows
    assert (rows["log"], rows["state"], rows["attempt"]) == (1, 8, 3)
    assert sample.store.check() == []


def test_deleting_what_is_not_there_deletes_nothing(sample: Sample) -> None:
    assert sample.store.delete_flow_run(17) == 0


def test_pruning_deletes_what_ended_long_ago(sample: Sample) -> None:
    assert sample.store.prune(sample.first.created_us) == 0
    assert sample.store.prune(sample.second.created_us) == 7
    assert flow_run_names(sample, RunFilter()) == ["report/calm-otter", "etl/late-newt"]
    assert sample.store.prune(sample.alone.ended_us + 1, ["FAILED"]) == 0
    assert sample.store.prune(sample.alone.ended_us + 1) == 2
    assert flow_run_names(sample, RunFilter()) == ["report/calm-otter"]
    assert sample.store.check() == []


def test_stats_count_rows(sample: Sample) -> None:
    stats = sample.store.stats()
    assert stats.rows == {"process": 1, "flow_run": 4, "task_run": 6, "attempt": 10, "state": 29, "log": 0, "result": 0}
    assert (stats.incomplete_since_us, stats.missing_rows) == (None, 0)


def test_rows_show_identifiers_and_moments_as_people_use_them(sample: Sample) -> None:
    row = sample.store.flow_run(sample.first.key)
    assert row.id == sample.first.id
    assert row.created == sample.first.expected_start_time
    assert (row.started, row.ended) == (sample.first.start_time, sample.first.end_time)
    assert row.state_timestamp == sample.first.end_time
    assert row.process == 1
    [attempt] = sample.store.attempts(row.key)
    assert (attempt.started, attempt.ended) == (row.started, row.ended)
    assert sample.store.states(row.key)[0].timestamp == row.created
    running = sample.store.flow_run(sample.report.key)
    assert (running.ended, running.duration_seconds) == (None, None)
