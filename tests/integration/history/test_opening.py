"""Opening a history: what is refused, with which words, and what an interrupted migration leaves."""

from __future__ import annotations

import re
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from prefect_core import history
from prefect_core.errors import HistoryError
from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.sent import SentInput
from prefect_core.history.sqlite import upkeep
from prefect_core.history.sqlite.connection import FILE_NAME, PAGE_BYTES
from prefect_core.history.sqlite.driver import sqlite3
from prefect_core.history.sqlite.migrate import Migration, migrations, statements
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.runs import FlowRun
from prefect_core.state_kinds import COMPLETED, PENDING, RUNNING
from prefect_core.states import State
from tests.contract.history_runs import begin_flow_run, begin_task_run, enter, go_through

NOW = migrations()[-1].version
NEXT = Migration(
    NOW + 1, "9999_colour.sql", "ALTER TABLE flow_run ADD COLUMN colour TEXT;\nCREATE TABLE shape (name TEXT);\n"
)


def filled(folder: Path, task_runs: int = 300) -> FlowRun:
    """Make a history with one flow run."""
    recorder = StoreRecorder(SqliteStore(folder))
    flow_run = begin_flow_run(recorder)
    enter(recorder, flow_run, RUNNING)
    for index in range(task_runs):
        go_through(recorder, begin_task_run(recorder, flow_run, "load", index), [RUNNING, COMPLETED])
    enter(recorder, flow_run, COMPLETED)
    recorder.close()
    return flow_run


def test_all_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "home")
    store.next_key()
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home").iterdir()}
    assert files.keys() >= {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"}
    assert set(files.values()) == {0o600}
    store.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("Dear diary, " * 100)
    with pytest.raises(HistoryError, match=r"history\.db is damaged: file is not a database.*PREFECT_CORE_HOME"):
        history.open_store(tmp_path)


@pytest.mark.parametrize("keep", [100, 4096, 20_000])
def test_a_cut_file_is_refused_or_found_by_check(tmp_path: Path, keep: int) -> None:
    filled(tmp_path)
    whole = (tmp_path / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(whole[:keep])
    try:
        store = history.open_store(tmp_path)
    except HistoryError as error:
        assert "damaged" in str(error)
        assert "PREFECT_CORE_HOME" in str(error)
    else:
        assert store.check()
        store.close()


def test_flipped_pages_are_found_by_check_and_named_when_read(tmp_path: Path) -> None:
    flow_run = filled(tmp_path)
    file = bytearray((tmp_path / FILE_NAME).read_bytes())
    # Behind those of the empty file: without its schema it can't even be opened.
    SqliteStore(tmp_path / "empty").close()
    first = (tmp_path / "empty" / FILE_NAME).stat().st_size // PAGE_BYTES
    for page in range(first, len(file) // PAGE_BYTES):
        file[page * PAGE_BYTES : page * PAGE_BYTES + 16] = b"\xa5" * 16
    (tmp_path / FILE_NAME).write_bytes(bytes(file))
    store = history.open_store(tmp_path)
    assert re.search(r"^Damaged|can't be read", store.check()[0])
    with pytest.raises(HistoryError, match=r"damaged.*db backup"):
        store.task_runs()
        store.states(flow_run.key)
    store.close()


def test_a_history_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    SqliteStore(tmp_path, [*migrations(), NEXT]).close()
    with pytest.raises(
        HistoryError, match=rf"newer prefect_core \(schema {NOW + 1}, this version knows up to {NOW}\).*Upgrade"
    ):
        history.open_store(tmp_path)


def test_a_history_of_an_older_version_is_migrated(tmp_path: Path) -> None:
    flow_run = filled(tmp_path)
    store = SqliteStore(tmp_path, [*migrations(), NEXT])
    assert store.stats().schema_version == NOW + 1
    assert store.flow_run(flow_run.key).state_name == "Completed"
    store.close()
    outside = sqlite3.connect(tmp_path / FILE_NAME)
    rows = outside.execute("SELECT version, name, length(sha256) FROM schema_migration").fetchall()
    outside.close()
    assert rows == [(one.version, one.name, 64) for one in (*migrations(), NEXT)]


def test_a_run_of_an_older_version_is_sent_inputs(tmp_path: Path) -> None:
    recorder = StoreRecorder(SqliteStore(tmp_path, migrations()[:6]))
    run = begin_flow_run(recorder)
    enter(recorder, run, RUNNING)
    recorder.flush()
    with closing(history.open_store(tmp_path)) as store:
        row = SentInput(run.key, "int-auto", "int-auto-1", None, 5, 0, b"1")
        assert store.control().send_input(row)
        assert store.control().inputs(run.key, {"int-auto"}) == [row._replace(number=1)]
    # The older version, which knows nothing of them, goes on.
    enter(recorder, run, COMPLETED)
    recorder.close()
    with closing(history.open_store(tmp_path)) as store:
        assert store.check() == []


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    broken = NEXT._replace(sql=NEXT.sql + "CREATE TABLE shape (name TEXT);\n")
    flow_run = filled(tmp_path)
    with pytest.raises(HistoryError, match="can't be opened"):
        SqliteStore(tmp_path, [*migrations(), broken])
    store = history.open_store(tmp_path)
    assert store.stats().schema_version == NOW
    assert store.flow_run(flow_run.key).name == flow_run.name
    store.close()
    SqliteStore(tmp_path, [*migrations(), NEXT]).close()


def test_processes_that_open_a_new_history_at_once_migrate_it_once(tmp_path: Path) -> None:
    barrier = threading.Barrier(6)
    keys: list[int] = []

    def open_one() -> None:
        barrier.wait()
        store = SqliteStore(tmp_path / "home")
        keys.append(store.next_key() >> 32)
        store.close()

    threads = [threading.Thread(target=open_one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(keys) == [1, 2, 3, 4, 5, 6]


def test_a_migration_is_split_where_its_statements_end() -> None:
    assert statements("-- a; b\nCREATE TABLE a (\n b); \n\nINSERT INTO a VALUES ('; \n;');\n") == [
        "-- a; b\nCREATE TABLE a (\n b);",
        "INSERT INTO a VALUES ('; \n;');",
    ]


def test_a_backup_is_a_sound_history_of_one_moment(tmp_path: Path) -> None:
    flow_run = filled(tmp_path / "home")
    store = history.open_store(tmp_path / "home")
    target = tmp_path / "copy" / FILE_NAME
    with pytest.raises(HistoryError, match=r"copy.*folder that is there"):
        store.backup(target)
    target.parent.mkdir()
    store.backup(target)
    with pytest.raises(HistoryError, match=r"can't be copied.*exists"):
        store.backup(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    store.close()
    copy = history.open_store(target.parent)
    assert copy.check() == []
    assert copy.counts_by_state(flow_run.key) == {"Completed": 300}
    copy.close()


def test_check_names_loose_ends(tmp_path: Path) -> None:
    flow_run = filled(tmp_path, task_runs=3)
    outside = sqlite3.connect(tmp_path / FILE_NAME)
    outside.execute("DELETE FROM flow_run WHERE key = ?", (flow_run.key,))
    outside.commit()
    outside.close()
    store = history.open_store(tmp_path)
    problems = store.check()
    assert any("task_run names a row of flow_run that is missing" in problem for problem in problems)
    assert "3 rows of state belong to no run." in problems
    store.close()


def test_a_file_that_can_not_even_be_checked_is_a_problem_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(_: object) -> list[str]:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(upkeep, "_damage", unreadable)
    store = SqliteStore(tmp_path)
    assert store.check() == ["Damaged: the file can't be read: database disk image is malformed."]
    store.close()


def test_the_write_ahead_log_is_moved_into_the_database_when_it_has_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefect_core.history.sqlite.connection.CHECKPOINT_PAGES", 50)
    store = SqliteStore(tmp_path)
    recorder = StoreRecorder(store)
    for index in range(20):
        for count in range(400):
            go_through(recorder, begin_task_run(recorder, None, "load", index * 400 + count), [RUNNING, COMPLETED])
        recorder.flush()
    # A checkpoint follows the answer to a flush; the next flush is answered after it.
    begin_task_run(recorder, None, "last")
    recorder.flush()
    stats = store.stats()
    assert stats.bytes > 1_000_000
    assert stats.wal_bytes < 1_000_000
    recorder.close()


def wal_prefixes(folder: Path) -> tuple[bytes, bytes]:
    """Record into a history, and return its file and its write-ahead log as a power cut would find them."""
    store = SqliteStore(folder)
    recorder = StoreRecorder(store)
    flow_run = begin_flow_run(recorder)
    for index in range(60):
        go_through(recorder, begin_task_run(recorder, flow_run, "load", index), [RUNNING, COMPLETED])
        if index % 6 == 0:
            recorder.flush()
    recorder.flush()
    found = (folder / FILE_NAME).read_bytes(), (folder / f"{FILE_NAME}-wal").read_bytes()
    recorder.close()
    return found


def cut_and_judge(folder: Path, main: bytes, wal: bytes, length: int) -> int:
    """Open a history whose write-ahead log ends early; returns how many task runs it holds."""
    folder.mkdir()
    (folder / FILE_NAME).write_bytes(main)
    (folder / f"{FILE_NAME}-wal").write_bytes(wal[:length])
    store = SqliteStore(folder)
    assert store.check() == []
    rows = store.task_runs()
    assert all(row.state_name == store.states(row.key)[-1].name for row in rows)
    store.close()
    return len(rows)


def judge_cuts(tmp_path: Path, points: int) -> int:
    main, wal = wal_prefixes(tmp_path / "home")
    lengths = [len(wal) * part // points for part in range(points + 1)]
    counts = [cut_and_judge(tmp_path / str(length), main, wal, length) for length in lengths]
    assert counts == sorted(counts)
    assert counts[-1] == 60
    return len(set(counts))


def test_a_power_cut_leaves_a_sound_beginning(tmp_path: Path) -> None:
    assert judge_cuts(tmp_path, 20) > 3


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_campaign_of_power_cuts(tmp_path: Path) -> None:
    print(f"\ncampaign: 500 power cuts left {judge_cuts(tmp_path, 500)} different beginnings")


def test_a_run_that_has_only_times_to_tell_is_one_row_until_more_is_said_of_it(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    recorder = StoreRecorder(store)
    run = begin_task_run(recorder, None, "plain", 0)
    go_through(recorder, run, [RUNNING, COMPLETED])
    recorder.flush()

    def own_rows() -> list[int]:
        with store._connections.reading() as connection:
            counts = connection.execute("SELECT (SELECT count(*) FROM state), (SELECT count(*) FROM attempt)")
            return list(counts.fetchone())

    def told() -> tuple[list[str], list[int]]:
        states = [state.name for state in store.states(run.key)]
        return states, [attempt.attempt for attempt in store.attempts(run.key)]

    assert own_rows() == [0, 0]
    assert told() == (["Pending", "Running", "Completed"], [1])
    run.attempt, run.run_count = 2, 2
    recorder.entered(run, State(PENDING, message="Once more."))
    recorder.entered(run, State(RUNNING, "Retrying"))
    recorder.flush()
    assert own_rows() == [5, 2]
    assert told() == (["Pending", "Running", "Completed", "Pending", "Retrying"], [1, 2])
    assert store.check() == []
    recorder.close()
