"""`prefect-core results`: what is listed and what goes; and that no reading command ever loads a value."""

from __future__ import annotations

import json
import os
import pickle
import re
import sqlite3
from pathlib import Path

import cloudpickle
import pytest

from prefect_core import flow, history, task
from prefect_core.cli.asked import SIZE
from prefect_core.errors import StorageError
from prefect_core.history.process import this_user
from prefect_core.results import load_result
from prefect_core.results.kept import KeptValue
from prefect_core.serializers import PickleSerializer
from prefect_core.storage.local import LocalStorage


class Bomb:
    """Leaves a file behind when it is unpickled, whoever does it."""

    def __init__(self, weight):
        self.weight = weight

    def __reduce__(self):
        return _explode, (self.weight,)


def _explode(weight):
    Path("exploded").touch()
    return Bomb(weight)


@task(persist_result=True)
def small(x):
    return x


@task(persist_result=True)
def large(x):
    return Bomb(b"x" * 20_000)


@flow(persist_result=True, validate_parameters=False)
def inner(thing=object):
    return small(3)


@flow
def shop():
    small(1)
    large(2)
    inner()
    raise ValueError("on purpose")


@flow(persist_result=True, validate_parameters=False)
def held(thing):
    return 1


@pytest.fixture
def ran():
    """Leave a failed run with four results, and one with its parameters and its value."""
    shop(return_state=True)
    held({1, "two"})
    history.current().flush()


def objects(home):
    return sorted(path for path in (home / "storage").rglob("*") if path.is_file())


def names(called):
    return [row["run"] for row in called.json]


@pytest.mark.usefixtures("ran")
class TestLs:
    def test_results_are_listed_newest_first(self, call, home):
        called = call("results", "ls")
        assert called.code == 0
        assert called.lines[0] == ["RUN", "SIZE", "SERIALIZER", "CREATED", "RUNS", "WHERE"]
        assert [line[0] for line in called.lines[3:]] == ["inner-0", "small-0", "large-0", "small-0"]
        [placed] = [line for line in called.lines if line[0] == "large-0"]
        [file] = objects(home)
        assert placed[1:4] == ["19.6", "KiB", "pickle"]
        assert placed[-1] == f"file://{file}"
        assert called.lines[-1][-1] == "history"

    def test_those_of_one_flow_run_are_those_of_all_runs_in_it(self, call):
        [run] = [one for one in call("flow-run", "ls", "--json").json if one["flow_name"] == "shop"]
        listed = call("results", "ls", "--flow-run", run["id"], "--json")
        assert names(listed) == ["inner-0", "small-0", "large-0", "small-0"]
        assert [len(row["run_ids"]) for row in listed.json] == [2, 1, 1, 1]
        [child] = [one for one in call("flow-run", "ls", "--json").json if one["flow_name"] == "inner"]
        assert names(call("results", "ls", "--flow-run", child["name"], "--json")) == ["inner-0", "small-0"]
        assert call("results", "ls", "--flow-run", "nobody").code == 1

    def test_json_has_all_that_is_known(self, call):
        [row] = [row for row in call("results", "ls", "--json").json if row["run"] == "large-0"]
        assert set(row) == {
            "run", "run_ids", "parameters_of", "cache_keys", "serializer", "storage", "object", "bytes", "sha256", "created",
        }  # fmt: skip
        assert row["bytes"] > 20_000
        assert re.fullmatch("[0-9a-f]{64}", row["sha256"])

    def test_parameters_are_told_from_values(self, call):
        [run] = [one for one in call("flow-run", "ls", "--json").json if one["flow_name"] == "held"]
        rows = call("results", "ls", "--flow-run", run["id"], "--json").json
        assert [(row["run"], row["run_ids"], row["parameters_of"]) for row in rows] == [
            (run["name"], [run["id"]], []),
            (f"{run['name']} (parameters)", [], [run["id"]]),
        ]

    def test_a_list_that_was_cut_says_so(self, call):
        called = call("results", "ls", "--limit", "2", "--json")
        assert len(called.json) == 2
        assert called.err == "There are more than 2; --limit shows more.\n"


@pytest.mark.usefixtures("ran")
class TestPrune:
    def test_without_a_wish_nothing_goes(self, call):
        called = call("results", "prune")
        assert called.code == 2
        assert "Say what to drop" in called.err

    def test_large_results_go_with_their_objects(self, call, home):
        called = call("results", "prune", "--larger-than", "10kB")
        assert (called.code, called.out) == (0, "")
        assert called.err == "Dropped 1 stored result (19.6 KiB).\n"
        assert objects(home) == []
        assert "large-0" not in names(call("results", "ls", "--json"))
        assert call("db", "check", "--objects").code == 0

    def test_old_results_go(self, call):
        assert call("results", "prune", "--older-than", "1h", "--json").json["dropped_results"] == 0
        assert call("results", "prune", "--older-than", "2100-01-01", "--json").json == {
            "dropped_results": 6,
            "dropped_bytes": pytest.approx(20_100, abs=200),
            "deleted_objects": 1,
            "deleted_orphans": 0,
            "deleted_leftovers": 0,
            "problems": [],
        }
        assert call("results", "ls", "--json").json == []
        assert [run["state"]["name"] for run in call("task-run", "ls", "--json").json] == ["Completed"] * 4

    def test_the_oldest_go_until_the_rest_fits(self, call):
        call("results", "prune", "--keep-total", "1KiB")
        assert names(call("results", "ls", "--json"))[-2:] == ["inner-0", "small-0"]

    def test_a_dry_run_shows_what_would_go_and_drops_nothing(self, call, home):
        called = call("results", "prune", "--larger-than", "10kB", "--orphans", "--dry-run", "--json")
        assert names(called) == ["large-0"]
        assert called.err == "Would drop 1 stored result (19.6 KiB) and 0 orphans (0 B).\n"
        assert len(call("results", "ls", "--json").json) == 6
        assert len(objects(home)) == 1

    def test_orphans_and_leftovers_go_when_they_are_an_hour_old(self, call, home):
        [named] = objects(home)
        for name in ("orphan", ".tmp-leftover", "young"):
            (named.parent / name).write_text("bytes")
        for file in (named, named.parent / "orphan", named.parent / ".tmp-leftover"):
            os.utime(file, (1e9, 1e9))
        assert "and 1 orphan (5 B)" in call("results", "prune", "--orphans", "--dry-run").err
        called = call("results", "prune", "--orphans", "--json").json
        assert (called["deleted_orphans"], called["deleted_leftovers"]) == (1, 1)
        assert objects(home) == sorted([named, named.parent / "young"])
        assert call("results", "prune", "--orphans").err == "Dropped 0 stored results (0 B) and 0 orphans (0 B).\n"

    def test_an_object_that_could_not_be_deleted_is_told_and_goes_later(self, call, home, monkeypatch):
        def fails(_self, _key):
            raise StorageError("The disk is on fire.")

        with monkeypatch.context() as patched:
            patched.setattr(LocalStorage, "delete", fails)
            called = call("results", "prune", "--keep-total", "0")
        assert called.code == 1
        assert "The disk is on fire." in called.err
        assert len(objects(home)) == 1
        assert "1 objects are yet to be deleted" in call("db", "stats").out
        assert call("db", "stats", "--json").json["results"]["objects_to_delete"] == 1
        assert call("db", "prune", "--older-than", "30d").code == 0
        assert objects(home) == []

    def test_deleting_a_flow_run_deletes_its_results_and_objects(self, call, home):
        [run] = [one for one in call("flow-run", "ls", "--json").json if one["flow_name"] == "shop"]
        assert call("flow-run", "delete", run["id"]).code == 0
        assert objects(home) == []
        assert len(call("results", "ls", "--json").json) == 2

    def test_pruning_old_runs_deletes_their_results_and_objects(self, call, home):
        assert call("db", "prune", "--older-than", "2100-01-01").code == 0
        assert objects(home) == []
        assert call("results", "ls", "--json").json == []
        assert call("db", "check", "--objects").out == "The history is sound.\n"

    def test_the_reason_says_who(self, call):
        call("results", "prune", "--keep-total", "0")
        reasons = call("task-run", "explain", "large-0", "--json").json["reasons"]
        assert f"by results prune, asked for by {this_user()}; when it is called again, its body runs." in reasons[-1]


def test_what_a_live_flow_run_has_stored_stays(call, home):
    @flow
    def prunes_itself():
        large(1)
        history.current().flush()
        return call("results", "prune", "--keep-total", "0", "--json").json["dropped_results"]

    assert prunes_itself() == 0
    assert len(objects(home)) == 1
    assert call("results", "prune", "--keep-total", "0", "--json").json["dropped_results"] == 1


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("7B", 7),
        ("10kB", 10_000),
        ("10KiB", 10_240),
        ("10k", 10_240),
        ("1.5 MiB", 1_572_864),
        ("2G", 2 << 30),
        ("1tb", 10**12),
    ],
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert SIZE.convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "-1", "x", "1x", "1ib", "k", "1,5M", "1e3"])
def test_what_is_no_size_is_refused(call, text):
    called = call("results", "prune", "--larger-than", text)
    assert called.code == 2
    assert "is no size" in called.err


@pytest.mark.usefixtures("ran")
class TestDb:
    def test_stats_count_results_and_their_bytes(self, call):
        found = call("db", "stats", "--json").json
        assert found["rows"]["result"] == found["results"]["count"] == 6
        assert 20_000 < found["results"]["bytes"] < 20_500
        assert found["results"]["bytes_in_history"] < 500
        assert re.search(r"Stored results: +6 \(19\.\d KiB, \d+ B of it in the history\)\n", call("db", "stats").out)

    def test_check_notices_objects_that_are_missing_only_if_asked(self, call, home):
        [file] = objects(home)
        file.unlink()
        assert call("db", "check").code == 0
        called = call("db", "check", "--objects")
        assert called.code == 1
        assert re.fullmatch(
            r"The stored result of large-0 \([0-9a-f-]{36}\) can't be used: .* is missing\.\n", called.out
        )
        assert call("db", "check", "--objects", "--json").json["ok"] is False

    def test_check_notices_what_names_a_result_that_is_gone(self, call, home):
        history.install(None).close()
        with sqlite3.connect(home / "history.db") as connection:
            connection.executescript(
                "DROP TRIGGER result_is_gone; DELETE FROM result; DELETE FROM task_run WHERE task_name = 'large'"
            )
        connection.close()
        called = call("db", "check")
        assert called.code == 1
        assert "rows of call name a stored result that is missing." in called.out
        assert "1 rows of unheld name a stored result that is missing." in called.out
        assert "1 rows of call belong to no run." in called.out

    def test_check_notices_results_that_belong_to_nothing_and_prune_drops_them(self, call, home):
        history.install(None).close()
        with sqlite3.connect(home / "history.db") as connection:
            connection.execute("INSERT INTO result VALUES (1, 'pickle', NULL, NULL, x'00', 1, x'00', NULL, 1)")
        connection.close()
        assert "1 stored results belong to nothing; prefect-core results prune --orphans" in call("db", "check").out
        assert call("results", "prune", "--orphans", "--json").json["dropped_results"] == 1
        assert call("db", "check").code == 0


READING = [
    ("flow-run", "ls"),
    ("flow-run", "inspect", "FLOW"),
    ("flow-run", "logs", "FLOW"),
    ("task-run", "ls"),
    ("task-run", "inspect", "large-0"),
    ("task-run", "explain", "large-0"),
    ("task-run", "explain", "small-0"),
    ("flow", "ls"),
    ("results", "ls"),
    ("results", "ls", "--flow-run", "FLOW"),
    ("results", "prune", "--keep-total", "0", "--orphans", "--dry-run"),
    ("db", "stats"),
    ("db", "check"),
    ("db", "check", "--objects"),
    ("config", "view"),
    ("doctor",),
    ("version",),
]


def refuses(*_arguments, **_options):
    raise AssertionError("A reading command loaded a pickle.")


@pytest.fixture
def never_unpickles(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for module, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (pickle, "_Unpickler"),
        (cloudpickle, "load"),
        (cloudpickle, "loads"),
        (PickleSerializer, "load"),
        (PickleSerializer, "loads"),
        (KeptValue, "load"),
    ):
        monkeypatch.setattr(module, name, refuses)


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_no_reading_command_unpickles(call, ran, never_unpickles, arguments, options):
    [flow_run] = [run.name for run in history.current().stored().flow_runs() if run.flow_name == "shop"]
    called = call(*(flow_run if word == "FLOW" else word for word in arguments), *options)
    assert called.code == 0, called.err
    if options:
        json.loads(called.out)
    assert not Path("exploded").exists()


def test_commands_that_change_the_history_do_not_unpickle_either(call, ran, never_unpickles, home):
    assert call("results", "prune", "--larger-than", "1k", "--orphans").code == 0
    assert call("db", "backup", str(home / "copy.db")).code == 0
    assert call("db", "prune", "--older-than", "2100-01-01").code == 0
    assert objects(home) == []


def test_the_check_on_unpickling_would_notice(ran, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load_result(history.current().stored().task_run("large-0").id)
    assert Path("exploded").exists()
