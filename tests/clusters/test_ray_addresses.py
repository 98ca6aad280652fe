"""What is said where there is no Ray: none installed, or none at an address."""

from __future__ import annotations

import builtins
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import Any

import pytest

from prefect_core import flow
from prefect_core.errors import ConfigurationError, RunnerError
from prefect_core.task_runners import RayTaskRunner
from prefect_runners import ray_preflight, versions


def refused(runner: str | RayTaskRunner) -> str:
    """Run a flow on the Ray of an address that takes no more than ten seconds to fail; returns what is said of that."""

    @flow(task_runner=runner if isinstance(runner, RayTaskRunner) else f"ray:{runner}")
    def run() -> None:
        """Do nothing."""

    begun = time.monotonic()
    state = run(return_state=True)
    assert time.monotonic() - begun < 10
    assert isinstance(state.data, RunnerError)
    return str(state.message)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379"])
def test_a_wrong_address_is_an_error_within_ten_seconds_that_says_what_was_tried(address: str) -> None:
    assert address in refused(address)


@pytest.mark.parametrize("runner", [RayTaskRunner(init_kwargs={"address": "127.0.0.1:1"}), RayTaskRunner()])
def test_an_address_of_the_environment_or_among_the_options_is_one(
    runner: RayTaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not runner.init_kwargs:
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    said = refused(runner)
    assert "There is no Ray at '127.0.0.1:1'" in said
    assert "RAY_ADDRESS" in said


@pytest.fixture(params=["mute", "http"])
def other(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where something else listens."""
    if request.param == "mute":
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"127.0.0.1:{web.server_port}"
        web.shutdown()
        thread.join()


@pytest.mark.skipif(find_spec("grpc") is None, reason="ray:// needs gRPC, the extra ray[client]")
def test_what_is_no_client_server_is_an_error_within_ten_seconds_that_says_what_to_check(other: str) -> None:
    said = refused(f"ray://{other}")
    assert f"Ray could not be connected to at 'ray://{other}'" in said
    assert "Check that the port is that of the client server" in said


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "ray":
            raise ImportError("No module named 'ray'")
        return original(name, *arguments)

    @flow(task_runner="ray")
    def run() -> None: ...

    monkeypatch.setattr(builtins, "__import__", without)
    state = run(return_state=True)
    assert isinstance(state.data, ConfigurationError)
    assert "pip install prefect_core[ray]" in state.message


def test_workers_with_other_versions_are_refused_with_a_table(borrowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    here = versions.here
    changed = {"python": "2.7", "prefect_core": "9.9.1"}
    monkeypatch.setattr(versions, "here", lambda packages: here(packages) | changed)
    monkeypatch.setattr(ray_preflight, "_passed", set())

    @flow(task_runner="ray")
    def run() -> None:
        """Do nothing."""

    state = run(return_state=True)
    assert isinstance(state.data, RunnerError)
    lines = str(state.data).splitlines()
    assert lines[0] == "The software of this Ray differs from that of the flow's process:"
    assert lines[1].split() == ["what", "here", "where", "there"]
    assert [line.split()[:3] for line in lines[2:4]] == [
        ["python", "2.7", "worker"],
        ["prefect_core", "9.9.1", "worker"],
    ]
    assert lines[2].split()[-1] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    python, packages = "run the flow and the cluster with the same minor version of Python", "prefect_core==9.9.1"
    assert lines[4] == f"To do: {python}; install there: pip install {packages}."
