"""Rays that were started from a shell: by their address, through their client server, and with an autoscaler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.clusters.existing import not_of_ray
from tests.clusters.existing_ray import ExistingRay, autoscaling, free_port
from tests.clusters.killing_flows import kill_flow
from tests.clusters.ray_bodies import still_alive

PROGRAM = Path(__file__).with_name("ray_visitor.py")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
needs_grpc = pytest.mark.skipif(find_spec("grpc") is None, reason="ray:// needs gRPC, the extra ray[client]")


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def existing_ray(port: int) -> Iterator[ExistingRay]:
    with ExistingRay("--num-cpus=2", f"--ray-client-server-port={port}") as existing:
        yield existing


def visit(existing: ExistingRay, address: str) -> tuple[dict[str, Any], str]:
    environment = {**not_of_ray(), "RAY_AUTH_MODE": "disabled", "PYTHONPATH": os.pathsep.join(sys.path)}
    # Where it stands is to be seen if it does not come to its end.
    command = [sys.executable, "-X", "faulthandler", str(PROGRAM), address]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as visitor:
        try:
            out, errors = visitor.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            visitor.send_signal(signal.SIGABRT)
            out, errors = visitor.communicate(timeout=20)
    lines = [line for line in out.splitlines() if line.startswith("told:")]
    if not lines:
        # As text, of which pytest leaves nothing out.
        pytest.fail(f"{errors}\n{existing.client_log()}")
    told: dict[str, Any] = json.loads(lines[0].removeprefix("told:"))
    return told, errors


@pytest.mark.parametrize("kind", ["address", pytest.param("client", marks=needs_grpc)])
def test_flows_run_on_the_ray_at_an_address_and_through_its_client_server(
    existing_ray: ExistingRay, port: int, kind: str
) -> None:
    address = existing_ray.address if kind == "address" else f"ray://127.0.0.2:{port}"
    told, errors = visit(existing_ray, address)
    if told.get("double") != 6:
        pytest.fail(f"{told['state']}\n{errors}\n{existing_ray.client_log()}")
    assert told["map"] == 2450
    assert told["total"] == float(1 << 17)
    assert "KeyError: 'word'" in told["speak"]
    assert told["logs"] == ["said there"]
    assert told["late"].startswith("TimedOut")
    assert "no node of this Ray has that: at most they have 2 of 'CPU'" in told["greedy"]
    assert told["left"] == []


def test_what_a_killed_flow_process_had_on_a_borrowed_ray_is_crashed_and_ends_there(
    existing_ray: ExistingRay, tmp_path: Path, home: Path
) -> None:
    runner = f"RayTaskRunner({existing_ray.address!r})"
    journal, begun = kill_flow(runner, tmp_path / "killed", home)
    assert still_alive(begun) == []
    # Both processors are free, for bodies of another program and no others.
    again, others = kill_flow(runner, tmp_path / "again", home)
    assert still_alive(others) == []
    assert journal.lines() == list(map(str, begun))
    assert again.lines() == list(map(str, others))


@pytest.mark.skipif(find_spec("grpc") is not None, reason="with gRPC there is nothing to say")
def test_without_grpc_the_error_says_what_to_install(existing_ray: ExistingRay, port: int) -> None:
    told, _ = visit(existing_ray, f"ray://127.0.0.2:{port}")
    assert "pip install 'ray[client]'" in told["state"]


@needs_grpc
def test_a_port_that_is_not_that_of_a_client_server_is_named_with_what_to_use(existing_ray: ExistingRay) -> None:
    told, _ = visit(existing_ray, f"ray://{existing_ray.address}")
    assert f"Ray could not be connected to at 'ray://{existing_ray.address}'" in told["state"]
    assert "Check that the port is that of the client server" in told["state"]
    assert told["seconds"] < 10


def test_a_task_that_waits_for_an_autoscaler_is_a_warning_and_no_error(tmp_path: Path) -> None:
    options, environment = autoscaling(tmp_path)
    with ExistingRay(*options, environment=environment) as existing:
        told, errors = visit(existing, existing.address)
    assert told.get("double") == 6, (told, errors)
    assert told["greedy"] == "open"
    assert "It waits until Ray's autoscaler adds one." in errors
