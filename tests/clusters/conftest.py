"""Clusters of Dask and Rays that tests borrow: small, quiet, and on loopback alone.

Rays get a temporary folder whose paths are short enough for sockets. The one that tests borrow serves all modules that ask for it in
succession, for which they are put together.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import distributed
import pytest

from prefect_core.testing.contract.journal import Journal
from tests.clusters.existing import ExistingCluster

# Ray has no wheel for the newest Python.
collect_ignore_glob = [] if find_spec("ray") is not None else ["test_ray_*", "faults/test_ray_*"]


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def threads() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExistingCluster]:
    """A scheduler and two workers, each a process that was started from a shell."""
    with ExistingCluster(tmp_path_factory.mktemp("existing"), workers=2) as cluster:
        yield cluster


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[ExistingCluster]:
    """One that a test may break."""
    with ExistingCluster(tmp_path, workers=2) as cluster:
        yield cluster


class Lent:
    """The Ray that modules borrow one after the other; it is up until a test comes that wants none, or another."""

    def __init__(self) -> None:
        self.is_up = False
        self.is_in_use = False

    def begin(self, options: dict[str, Any]) -> None:
        import ray

        if not self.is_up:
            ray.init(**options)
            self.is_up = True
        self.is_in_use = True

    def end(self) -> None:
        import ray

        if self.is_up:
            assert ray.is_initialized()
            ray.shutdown()
            self.is_up = False


_lent = Lent()


def _borrows(item: pytest.Item) -> bool:
    return "borrowed" in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules and classes that borrow a Ray from their first test on together."""
    firsts: dict[str, pytest.Item] = {}
    groups = [firsts.setdefault(item.nodeid.partition("[")[0].rpartition("::")[0], item) for item in items]
    items[:] = [
        item for _, item in sorted(zip(map(_borrows, groups), items, strict=True), key=lambda each: not each[0])
    ]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if not _lent.is_in_use and not _borrows(item):
        _lent.end()


@pytest.fixture(scope="session")
def ray_options() -> Iterator[dict[str, Any]]:
    """What a Ray of a test is started with."""
    folder = tempfile.mkdtemp(prefix="ray-")
    yield {
        "num_cpus": 2,
        "object_store_memory": 500 << 20,
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": "error",
        "_temp_dir": folder,
    }
    _lent.end()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="class")
def own(ray_options: dict[str, Any]) -> Iterator[None]:
    """Keep what the first runner would start, so that each flow run need not start its own."""
    import ray

    from prefect_runners import ray_cluster

    lease = ray_cluster.connect(None, ray_options)
    yield
    lease.give_back()
    assert not ray.is_initialized()


@pytest.fixture(scope="class")
def of_one_processor(ray_options: dict[str, Any]) -> Iterator[None]:
    """A Ray that no runner started."""
    import ray

    ray.init(**ray_options | {"num_cpus": 1})
    yield
    assert ray.is_initialized()
    ray.shutdown()


@pytest.fixture(scope="module")
def borrowed(ray_options: dict[str, Any]) -> Iterator[None]:
    """A Ray that no runner started, and that others borrow before and after."""
    import ray

    _lent.begin(ray_options)
    yield
    _lent.is_in_use = False
    assert ray.is_initialized()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A file in which bodies note what they do."""
    return Journal(tmp_path / "journal")
