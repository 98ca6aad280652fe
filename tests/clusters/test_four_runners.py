"""Runs `examples/four_runners.py` on real flights, and looks up in the history what ran where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from prefect_core import history
from prefect_core.history.store import RunFilter
from tests.clusters.existing import not_of_ray

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "four_runners.py"
RUNNERS = ["ConcurrentTaskRunner", "ProcessPoolTaskRunner", "DaskTaskRunner", "RayTaskRunner"]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Ray has no wheel for the newest Python")
def test_each_quarter_runs_on_its_own_runner_and_all_add_up(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--rows", "200"],
        env={**not_of_ray(), "PREFECT_CORE_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "All in all 2,400 flights." in done.stdout
    store = history.open_store(tmp_path)
    try:
        runs = {row.flow_name: row for row in store.flow_runs()}
        assert [runs[f"quarter-{number}"].runner for number in range(1, 5)] == RUNNERS
        workers: list[set[str]] = []
        for number in range(1, 5):
            tasks = store.task_runs(RunFilter(flow_run=runs[f"quarter-{number}"].key))
            assert len(tasks) == 7
            assert {row.state_type for row in tasks} == {"COMPLETED"}
            workers.append({row.worker.split(":")[1] for row in tasks})
        # The first quarter ran in the flow's own process, no other did.
        assert len(workers[0]) == 1
        assert all(workers[0].isdisjoint(others) for others in workers[1:])
    finally:
        store.close()


def test_another_runner_for_a_subflow_is_chosen_from_outside(tmp_path: Path) -> None:
    chosen = [f"--task-runner=quarter-{number}=sequential" for number in (2, 3, 4)]
    command = [
        str(Path(sys.executable).with_name("prefect-core")),
        "run",
        f"{EXAMPLE}:count_year",
        "-p",
        "rows=20",
        *chosen,
    ]
    environment = {**not_of_ray(), "PREFECT_CORE_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    store = history.open_store(tmp_path)
    try:
        runs = {row.flow_name: row for row in store.flow_runs()}
        expected = ["ConcurrentTaskRunner", *["SequentialTaskRunner"] * 3]
        assert [runs[f"quarter-{number}"].runner for number in range(1, 5)] == expected
        assert list(store.counts_by_worker(runs["quarter-4"].key).values()) == [7]
    finally:
        store.close()
