"""`prefect-core run why`."""

from __future__ import annotations

import pytest

from prefect_core import history
from prefect_core.cli.main import program
from tests.unit.cli.conftest import Call

pytestmark = pytest.mark.usefixtures("ran")


def test_it_says_why_in_one_sentence(call: Call) -> None:
    called = call("run", "why", "mishap")
    assert (called.code, called.err) == (0, "")
    assert called.out.startswith("mishap failed at ")
    assert (
        "the first failure in it is that of unlucky-1, Failed: Task run encountered an exception ValueError"
        in called.out
    )
    assert called.out.count("\n") == 1


def test_json_has_the_facts(call: Call) -> None:
    told = call("run", "why", "shop-3", "--json").json
    assert set(told) == {
        "id",
        "name",
        "kind",
        "state",
        "sentence",
        "reason",
        "process",
        "has_answered",
        "requests",
    }
    assert told["sentence"] == call("run", "why", "shop-3").out.strip()
    assert (told["kind"], told["state"]["type"]) == ("flow_run", "COMPLETED")
    assert told["reason"]["kind"] == "ended"
    assert (told["process"], told["has_answered"], told["requests"]) == (None, None, [])


@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_a_run_is_named_as_elsewhere_and_debug_may_stand_anywhere(call: Call, debug: tuple[str, ...]) -> None:
    with history.reading() as store:
        known = str(store.task_run("unlucky-1").id)
    for name in (known, known[:-1], "unlucky-1"):
        assert call("run", *debug, "why", name).out.startswith("unlucky-1 failed at ")
    assert call(*debug, "run", "why", known, *debug).code == 0


def test_an_unknown_run_is_an_error(call: Call) -> None:
    called = call("run", "why", "nobody")
    assert (called.code, called.out) == (1, "")
    assert called.err == "Error: The history holds no flow run or task run with id or name 'nobody'.\n"


def test_it_is_called_wrongly_without_a_run(call: Call) -> None:
    called = call("run", "why")
    assert called.code == 2
    assert "Usage: prefect-core run why [OPTIONS] RUN" in called.err


def test_it_is_listed_and_run_still_takes_a_flow(call: Call) -> None:
    assert "  run why  " in call("--help").out
    assert "why.py" in call("run", "why.py:flow").err
    assert program.list_commands(None)[:2] == ["run", "run why"]  # type: ignore[arg-type]  # it needs no context
