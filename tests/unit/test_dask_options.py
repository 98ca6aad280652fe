"""The Dask runner's options, which are checked before Dask is loaded."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

from prefect_core import flow
from prefect_core.errors import ConfigurationError
from prefect_core.task_runners import DaskTaskRunner, resolve_runner


class Cluster:
    scheduler_address = "tcp://somewhere:1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "tcp://x:1", "cluster": Cluster()}, "Cannot specify `address` and `cluster`/`cluster_class`/"),
        ({"address": "tcp://x:1", "cluster_kwargs": {"n_workers": 1}}, "Cannot specify `address` and"),
        ({"address": "tcp://x:1", "adapt_kwargs": {"maximum": 1}}, "Cannot specify `address` and"),
        (
            {"cluster": Cluster(), "cluster_class": "x.Y"},
            "Cannot specify `cluster` and `cluster_class`/`cluster_kwargs`",
        ),
        ({"cluster": Cluster(), "cluster_kwargs": {"n_workers": 1}}, "Cannot specify `cluster` and"),
        ({"cluster_kwargs": {"asynchronous": True}}, "`cluster_kwargs` cannot set `asynchronous`"),
        ({"client_kwargs": {"asynchronous": False}}, "`client_kwargs` cannot set `asynchronous`"),
        ({"address": "tcp://x:1", "keep_warm": True}, "Cannot specify `keep_warm` and `address`/`cluster`"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="annot") as refused:
        DaskTaskRunner(**options)
    assert message in str(refused.value)


@pytest.mark.parametrize("options", [{"address": 5}, {"address": ""}, {"cluster": "tcp://x:1"}, {"cluster_class": 5}])
def test_options_of_a_wrong_type_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        DaskTaskRunner(**options)


def test_names_make_runners() -> None:
    assert resolve_runner("dask") == DaskTaskRunner()
    assert resolve_runner("dask:tcp://host:8786") == DaskTaskRunner(address="tcp://host:8786")
    assert repr(resolve_runner("dask:tcp://host:8786")) == "DaskTaskRunner(address='tcp://host:8786')"


def test_a_duplicate_has_every_option() -> None:
    cluster = Cluster()
    runner = DaskTaskRunner(cluster=cluster, client_kwargs={"timeout": 3}, performance_report_path="report.html")
    assert runner.duplicate() == runner
    assert runner.duplicate().cluster is cluster
    own = DaskTaskRunner(cluster_class="x.Y", cluster_kwargs={"a": 1}, adapt_kwargs={"maximum": 2}, keep_warm=True)
    assert own.duplicate() == own != runner


def test_a_runner_that_travels_takes_the_address_along() -> None:
    travelled = pickle.loads(pickle.dumps(DaskTaskRunner(cluster=Cluster())))
    assert travelled == DaskTaskRunner(address="tcp://somewhere:1")


def test_without_dask_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("prefect_runners.dask_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "distributed", None)

    @flow(task_runner="dask:tcp://127.0.0.1:1")
    def run() -> int:
        return 1

    state = run(return_state=True)
    assert isinstance(state.data, ConfigurationError)
    assert "pip install 'prefect_core[dask]'" in str(state.data)
