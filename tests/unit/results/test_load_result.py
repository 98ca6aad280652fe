"""`prefect_core.results.load_result`: the stored value of a run that completed, and why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from prefect_core import flow, history, task
from prefect_core.errors import MissingResult, ObjectNotFound
from prefect_core.results import load_result
from prefect_core.settings import temporary_settings
from prefect_core.states import State
from tests.unit.recorded import Recorded


@task(persist_result=True)
def stored(value: Any) -> Any:
    return value


@task(persist_result=False)
def loose() -> int:
    return 1


@task(persist_result=True)
def failing() -> None:
    raise ValueError("on purpose")


@flow(persist_result=True)
def main(value: Any) -> list[Any]:
    stored(value)
    loose()
    failing(return_state=True)
    return [value]


@flow
def under_way() -> None:
    stored(1)
    with pytest.raises(MissingResult, match="it is Running, and only runs that completed have one"):
        load_result(ids()["main"])


def ids() -> dict[str, str]:
    history.current().flush()
    store = history.current().stored()
    return {run.name: str(run.id) for run in store.task_runs()} | {"main": str(store.flow_runs()[0].id)}


def test_values_of_task_runs_and_flow_runs_are_loaded_by_id() -> None:
    main({"a": 1})
    assert load_result(ids()["stored-0"]) == load_result(UUID(ids()["stored-0"])) == {"a": 1}
    state: State = main("b", return_state=True)
    assert load_result(state.state_details.flow_run_id) == ["b"]
    assert load_result(ids()["main"]) == ["b"]


def test_another_process_loads_what_this_one_stored(home: Path) -> None:
    main("x" * 20_000)
    run_id = ids()["stored-0"]
    recorder = history.install(None)
    assert recorder is not None
    recorder.close()
    assert load_result(run_id) == "x" * 20_000
    # Only read: no writer was opened for it.
    assert history.install(None) is None


def test_a_history_in_memory_is_read_as_well(recorded: Recorded) -> None:
    main([1])
    assert load_result(ids()["stored-0"]) == [1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "loose-0",
            r"There is no result of loose-0 \([0-9a-f-]{36}\): none was stored. persist_result=True on the task",
        ),
        ("failing-0", "it is Failed, and only runs that completed have one"),
    ],
)
def test_a_run_without_a_stored_value_says_why(name: str, words: str) -> None:
    main(1, return_state=True)
    with pytest.raises(MissingResult, match=words):
        load_result(ids()[name])


def test_a_run_that_is_under_way_has_no_value_yet() -> None:
    under_way()


def test_a_dropped_result_says_when_and_by_whom() -> None:
    main(1)
    store = history.current().stored()
    history.current().flush()
    run = store.task_run("stored-0")
    kept = store.kept(run.key)
    assert kept is not None
    store.drop_results([kept.result.key], "by a test", lambda _: True)
    with pytest.raises(MissingResult, match=r"it was dropped on \d{4}-.*, by a test\."):
        load_result(ids()["stored-0"])


def test_an_object_that_is_gone_or_damaged_is_no_result(home: Path) -> None:
    main("x" * 20_000)
    files = sorted(file for file in (home / "storage").rglob("*") if file.is_file())
    for file in files:
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(MissingResult, match="can't be had any more: ObjectDamaged"):
        load_result(ids()["stored-0"])
    for file in files:
        file.unlink()
    with pytest.raises(MissingResult, match="can't be had any more: ObjectMissing"):
        load_result(ids()["stored-0"])


@pytest.mark.parametrize("name", ["nobody", "", "stored-0", None, 17])
def test_what_is_no_id_is_refused(name: Any) -> None:
    main(1)
    with pytest.raises(ObjectNotFound, match=f"Expected the id of a run.*got {name!r}"):
        load_result(name)


def test_a_run_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(ObjectNotFound, match=f"no run with id {UUID(int=17)}"):
        load_result(UUID(int=17))


def test_where_only_json_may_be_loaded_a_pickle_is_refused() -> None:
    main(1)
    with temporary_settings(results_json_only=True), pytest.raises(Exception, match="results_json_only"):
        load_result(ids()["stored-0"])


def test_the_face_offers_it_and_the_store_of_transactions_and_nothing_else() -> None:
    import prefect_core.results as face

    assert face.__all__ == ["ResultStore", "load_result"]
    assert face.ResultStore.__name__ == "ResultStore"
    with pytest.raises(AttributeError, match="nonsense"):
        _ = face.nonsense


@pytest.mark.parametrize("value", ["text", [1, {"a": 2}]])
def test_the_bytes_in_the_history_are_not_kept_beside_the_value(value) -> None:
    @task(persist_result=True)
    def give():
        return value

    @flow
    def run():
        return give.submit()

    state = run(return_state=True).data
    assert state.result() == value
    assert state.kept.value is None
    assert load_result(state.state_details.task_run_id) == value
