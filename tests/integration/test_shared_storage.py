"""Two histories that share a storage and its cache keys: each deletes what it wrote, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.retrying import Flows

WORK = """
from prefect_core import flow, task
from prefect_core.cache_policies import INPUTS

@task(cache_policy=INPUTS.configure(key_storage="{shared}"), result_storage="{shared}")
def slow(x):
    with open("bodies", "a") as file:
        file.write(f"{{x}}\\n")
    return str(x) * 10_000

@flow
def cached():
    return len(slow(7))
"""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    (tmp_path / "work").mkdir()
    return folder


def house(tmp_path: Path, shared: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Flows:
    """Return the flows of one of the histories; its commands are those that are called next."""
    monkeypatch.setenv("PREFECT_CORE_HOME", str(tmp_path / name))
    flows = Flows(tmp_path / "work", tmp_path / name)
    flows.write(WORK.format(shared=shared))
    return flows


def objects(shared: Path) -> set[Path]:
    return {path for path in shared.rglob("*") if path.is_file()}


def test_who_found_a_result_by_a_shared_key_does_not_delete_it(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = house(tmp_path, shared, "first", monkeypatch)
    theirs = first.run("cached")
    assert first.bodies() == ["7"]
    before = objects(shared)
    assert len(before) == 2
    for path in before:
        os.utime(path, (1e9, 1e9))

    second = house(tmp_path, shared, "second", monkeypatch)
    ours = second.run("cached")
    assert second.bodies() == []
    assert [row["run"] for row in second.json("results", "ls")] == ["slow-0"]
    assert second.call("db", "check", "--objects").returncode == 0
    assert second.call("flow-run", "delete", ours).returncode == 0
    assert second.json("results", "prune", "--keep-total", "0", "--orphans")["deleted_orphans"] == 0
    assert second.json("results", "ls") == []
    assert objects(shared) == before

    first = house(tmp_path, shared, "first", monkeypatch)
    assert first.json("results", "prune", "--orphans")["deleted_orphans"] == 0
    assert objects(shared) == before
    assert first.call("flow-run", "delete", theirs).returncode == 0
    # The key is left, and finds nothing.
    assert len(objects(shared)) == 1
    assert first.json("run", "work.py:cached")["result"] == 10_000
    assert first.bodies() == ["7"]
