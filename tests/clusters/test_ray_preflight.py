"""What is looked at before tasks on Ray run: resources, modules, and the result storage."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from prefect_core import flow, task
from prefect_core.errors import RunnerError
from prefect_core.states import State
from prefect_core.task_runners import remote_options
from tests.clusters import probing

MODULE = (
    "from prefect_core import task\nFACTOR = 3\n"
    "def times(number):\n    return FACTOR * number\n"
    "@task\ndef triple(number):\n    return times(number)\n"
)


@task
def number() -> int:
    return 1


@pytest.mark.usefixtures("borrowed")
class TestBorrowed:
    def test_a_storage_that_all_reach_is_tried_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        probing.check_a_shared_folder_is_tried_once("ray", tmp_path, monkeypatch)

    def test_a_storage_that_is_not_shared_is_refused_and_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        probing.check_a_storage_that_is_not_shared_is_refused("ray", tmp_path, monkeypatch)

    @pytest.mark.parametrize("chunk", [None, 2])
    def test_a_module_that_the_workers_lack_travels_by_value(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int | None
    ) -> None:
        name = f"only_here_{chunk}"
        (tmp_path / f"{name}.py").write_text(MODULE)
        with monkeypatch.context() as here_only:
            here_only.syspath_prepend(tmp_path)
            module: Any = __import__(name)

        @flow(task_runner="ray")
        def run() -> list[int]:
            return module.triple.map([1, 2], chunk=chunk).result()

        assert run() == [3, 6]
        del sys.modules[name]

    def test_a_module_that_is_missing_behind_another_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "far_behind.py").write_text("def times(number):\n    return 3 * number\n")
        (tmp_path / "in_front.py").write_text(
            "from far_behind import times\nfrom prefect_core import task\n@task\ndef triple(number):\n    return times(number)\n"
        )
        with monkeypatch.context() as here_only:
            here_only.syspath_prepend(tmp_path)
            import in_front

        @flow(task_runner="ray")
        def run() -> State:
            return in_front.triple.submit(1, return_state=True)

        state = run(return_state=True).data
        assert state.is_failed()
        assert "No module named 'far_behind'" in state.message
        assert "Whatever it imports must be importable in workers too." in state.message
        del sys.modules["in_front"], sys.modules["far_behind"]

    @pytest.mark.parametrize(
        ("wanted", "named"),
        [({"cpu": 64}, "64 of 'CPU'"), ({"memory": "900TB"}, "of 'memory'"), ({"unicorn": 1}, "1 of 'unicorn'")],
    )
    def test_a_task_that_asks_for_more_than_there_is_is_an_error_at_once(
        self, wanted: dict[str, Any], named: str
    ) -> None:
        @flow(task_runner="ray")
        def run() -> list[State | None]:
            greedy = number.with_options(resources=wanted)
            return [greedy.submit().wait(20), number.submit().wait(20)]

        begun = time.monotonic()
        refused, other = run(return_state=True).data
        assert time.monotonic() - begun < 10
        assert isinstance(refused.data, RunnerError)
        assert named in str(refused.data)
        assert "no node of this Ray has that" in str(refused.data)
        assert other.is_completed()

    def test_so_is_one_that_remote_options_say_it_of_and_one_that_fits_is_none(self) -> None:
        @flow(task_runner="ray")
        def run() -> list[State | None]:
            with remote_options(num_gpus=3):
                greedy = number.submit()
            with remote_options(num_cpus=2):
                fitting = number.submit()
            return [greedy.wait(20), fitting.wait(20)]

        refused, fitting = run(return_state=True).data
        assert "3 of 'GPU'" in str(refused.data)
        assert fitting.is_completed()
