"""`prefect-core limit`."""

from __future__ import annotations

import os

import pytest

from prefect_core import history, task
from prefect_core.concurrency import concurrency
from prefect_core.history.limits import Asked
from prefect_core.limits import desk
from tests.unit.cli.conftest import Call


def test_a_limit_is_made_changed_and_removed(call: Call) -> None:
    assert call("limit", "create", "db", "2").err == "Made the limit 'db': 2 slots.\n"
    called = call("limit", "create", "db", "1", "--slot-decay-per-second", "0.5")
    assert called.code == 0
    assert called.err == "Changed the limit 'db', which was there: 1 slot, 0.5 a second come back, before 2 slots.\n"
    assert call("limit", "ls", "--json").json[0]["slots"] == 1
    assert call("limit", "rm", "db").err == "Removed the limit 'db'.\n"
    assert call("limit", "ls", "--json").json == []


def test_the_limit_on_a_tag_is_named_by_the_tag(call: Call) -> None:
    call("limit", "create", "gpu", "1", "--tag")
    [row] = call("limit", "ls", "--json").json
    assert (row["name"], row["tag"], row["slots_taken"]) == ("tag:gpu", "gpu", 0)
    assert call("limit", "inspect", "gpu", "--tag", "--json").json == row
    assert "add --tag" in call("limit", "rm", "gpu").err
    assert call("limit", "rm", "tag:gpu").code == 0


def test_what_is_not_there_is_told(call: Call) -> None:
    called = call("limit", "inspect", "db")
    assert called.code == 1
    assert "There is no limit 'db'; there is none." in called.err
    assert call("limit", "rm", "db").code == 1


@pytest.mark.parametrize(
    "arguments", [("db", "-1"), ("", "1"), ("gpu", "1", "--tag", "--slot-decay-per-second", "1"), ("db", "many")]
)
def test_what_can_be_no_limit_is_refused(call: Call, arguments: tuple[str, ...]) -> None:
    assert call("limit", "create", *arguments).code == 2


def test_who_holds_slots_is_shown(call: Call) -> None:
    call("limit", "create", "db", "3")

    @task
    def look() -> None:
        with concurrency("db", occupy=2):
            [row] = call("limit", "ls", "--json").json
            [holder] = row["holders"]
            assert (row["slots_taken"], holder["run"], holder["slots"]) == (2, "look-0", 2)
            assert holder["process"] == f"{os.uname().nodename}:{os.getpid()}"
            table = call("limit", "ls").out
            assert f"look-0 ({holder['process']}, since 20" in table
            page = call("limit", "inspect", "db").out
            assert "Held by" in page
            assert holder["run_id"] in page
            assert "Waiting" not in page

    look()
    desk().flush()
    assert call("limit", "ls", "--json").json[0]["holders"] == []


def test_of_many_holders_some_are_shown_and_the_others_counted(call: Call) -> None:
    call("limit", "create", "db", "5")
    table, process = history.current().limits()
    table.exchange(process, [Asked(("db",), 1, owner, f"run-{owner}") for owner in range(1, 8)])
    shown = call("limit", "ls").out
    assert "run-3 (" in shown
    assert "run-4 (" not in shown
    assert ", 2 more" in shown
    found = call("limit", "inspect", "db", "--json").json
    assert [one["run"] for one in found["holders"]] == [f"run-{number}" for number in range(1, 6)]
    assert [one["run"] for one in found["waiters"]] == ["run-6", "run-7"]
    assert "Waiting" in call("limit", "inspect", "db").out


def test_what_is_taken_of_a_holder_is_told_apart(call: Call) -> None:
    call("limit", "create", "db", "5")
    with concurrency("db"), concurrency("db"):
        found = call("limit", "inspect", "db", "--json").json
        assert [one["is_of_parent"] for one in found["holders"]] == [False, True]
        assert found["slots_taken"] == 1
        assert "1 of its parent's" in call("limit", "inspect", "db").out
