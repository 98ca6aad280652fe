"""The commands that look after the history."""

from __future__ import annotations

import stat

import pytest

from prefect_core import clock, history
from prefect_core.history.batch import Batch
from prefect_core.history.sqlite.driver import sqlite3


def test_the_statistics_count_rows_and_bytes(call, ran, home):
    found = call("db", "stats", "--json").json
    assert found["home"] == str(home)
    assert found["engine"].startswith("SQLite 3.")
    assert found["rows"]["flow_run"] == 3
    assert found["incomplete_since"] is None
    page = call("db", "stats").out
    assert "Complete:        yes\n" in page
    assert ["flow_run", "3"] in [line.split() for line in page.splitlines()]


def test_a_history_with_missing_rows_says_so(call, ran):
    store = history.open_store()
    loss = Batch()
    loss.incomplete = (clock.now_us(), 7)
    store.write(loss)
    store.close()
    assert "Complete:        no, 7 rows could not be written since " in call("db", "stats").out
    assert call("db", "stats", "--json").json["missing_rows"] == 7


def test_runs_that_are_younger_are_not_pruned(call, ran):
    called = call("db", "prune", "--older-than", "30d")
    assert called.err.startswith("Deleted 0 runs that ended before ")
    assert len(call("flow-run", "ls", "--json").json) == 3


def test_old_runs_are_pruned_by_state(call, ran):
    assert call("db", "prune", "--older-than", "2100-01-01", "--state", "failed", "--json").json["deleted_runs"] == 3
    assert [row["name"] for row in call("flow-run", "ls", "--json").json] == ["inner-of-2", "shop-3"]
    assert call("db", "prune", "--older-than", "2100-01-01", "--json").json["deleted_runs"] == 7


@pytest.mark.parametrize("state", ["Running", "TimedOut"])
def test_only_kinds_of_final_states_can_be_pruned(call, state):
    called = call("db", "prune", "--older-than", "1d", "--state", state)
    assert called.code == 2
    assert "COMPLETED, FAILED" in called.err


def test_pruning_must_be_told_an_age(call):
    assert call("db", "prune").code == 2


def test_a_backup_is_a_history_of_its_own(call, ran, tmp_path, monkeypatch):
    path = tmp_path / "copy" / "history.db"
    path.parent.mkdir()
    called = call("db", "backup", str(path))
    assert (called.code, called.out) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    copy = history.open_store(path.parent)
    assert len(copy.flow_runs()) == 3
    copy.close()


def test_a_backup_overwrites_nothing(call, ran, tmp_path):
    path = tmp_path / "precious"
    path.write_text("mine")
    called = call("db", "backup", str(path))
    assert called.code == 1
    assert called.err.startswith("Error: ")
    assert path.read_text() == "mine"


def test_a_sound_history_passes_the_check(call, ran):
    assert call("db", "check").out == "The history is sound.\n"
    assert call("db", "check", "--json").json == {"ok": True, "problems": []}


def test_a_history_with_loose_ends_fails_the_check(call, ran, home):
    history.install(None).close()
    with sqlite3.connect(home / "history.db") as connection:
        connection.execute("DELETE FROM task_run WHERE task_name = 'unlucky'")
    connection.close()
    called = call("db", "check")
    assert called.code == 1
    assert "belong to no run" in called.out
    assert call("db", "check", "--json").json["ok"] is False


def test_a_file_that_is_no_database_is_an_error_in_one_line(call, home):
    (home / "history.db").write_text("something else entirely")
    called = call("flow-run", "ls")
    assert (called.code, called.out) == (1, "")
    assert "PREFECT_CORE_HOME" in called.err
    assert called.err.count("\n") == 1
