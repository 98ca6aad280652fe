"""Runners on Ray that start and stop, many times, leave nothing behind: here or on the cluster."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
import ray

from prefect_core.task_runners import RayTaskRunner
from tests.clusters.ray_bodies import our_threads
from tests.leaks import assert_nothing_is_left


@pytest.fixture(autouse=True)
def own_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder of this test alone: others make theirs meanwhile."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


def borrow(times: int) -> str:
    told = assert_nothing_is_left(RayTaskRunner, times)
    assert our_threads() == []
    assert [key for key in _keys() if b"session-" in key] == []
    return told


def _keys() -> list[bytes]:
    from ray.experimental.internal_kv import _internal_kv_list

    return list(_internal_kv_list(b"", namespace=b"prefect_core"))


def start_own(times: int, options: dict[str, Any]) -> str:
    # A bare `ray.init` and `ray.shutdown` leave a socket open each time.
    told = assert_nothing_is_left(lambda: RayTaskRunner(init_kwargs=options), times, engines_files=1)
    assert not ray.is_initialized()
    return told


class TestBorrowed:
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def existing(cls, borrowed: None) -> None:
        ray.get([ray.remote(lambda: None).remote() for _ in range(2)])

    def test_a_borrowed_ray_and_whoever_borrows_it_are_left_as_they_were(self) -> None:
        borrow(20)

    @pytest.mark.faults
    @pytest.mark.timeout(1800)
    def test_campaign_of_borrowings(self) -> None:
        print(f"\ncampaign: Ray borrowed: {borrow(1000)}")
