"""Runners of this machine that start and stop, many times, leave nothing behind."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from prefect_core.task_runners import ExecutorTaskRunner, resolve_runner
from tests.leaks import assert_nothing_is_left

SAMPLE = {"sequential": 20, "concurrent": 20, "concurrent:2": 20, "processes:1": 4, "executor of threads": 20}
"""How often `make test` starts each; processes take half a second."""


def assert_it_leaves_nothing(runner: str, times: int) -> str:
    if runner == "executor of threads":
        # It is borrowed: what is started and stopped is the runner on it.
        with ThreadPoolExecutor(1) as executor:
            return assert_nothing_is_left(lambda: ExecutorTaskRunner(executor), times)
    return assert_nothing_is_left(lambda: resolve_runner(runner).duplicate(), times)


@pytest.fixture(autouse=True)
def own_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder of this test alone: others make theirs meanwhile."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


@pytest.mark.parametrize("runner", SAMPLE)
def test_a_local_runner_leaves_nothing(runner: str) -> None:
    assert_it_leaves_nothing(runner, SAMPLE[runner])


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("runner", SAMPLE)
def test_campaign_of_local_runners(runner: str) -> None:
    print(f"\ncampaign: {runner}: {assert_it_leaves_nothing(runner, 1000)}")
