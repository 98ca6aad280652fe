"""What is said where there is no Ray: none installed, or none at an address."""

from __future__ import annotations

import builtins
import sys
import time
from typing import Any

import pytest

from prefect_core import flow
from prefect_core.errors import ConfigurationError, RunnerError
from prefect_runners import ray_preflight


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379"])
def test_a_wrong_address_is_an_error_within_ten_seconds_that_says_what_was_tried(address: str) -> None:
    @flow(task_runner=f"ray:{address}")
    def run() -> None:
        """Do nothing."""

    begun = time.monotonic()
    state = run(return_state=True)
    assert time.monotonic() - begun < 10
    assert isinstance(state.data, RunnerError)
    assert address in state.message


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
    original = ray_preflight._versions_here
    monkeypatch.setattr(ray_preflight, "_versions_here", lambda: original() | {"python": "2.7"})
    monkeypatch.setattr(ray_preflight, "_passed", set())

    @flow(task_runner="ray")
    def run() -> None:
        """Do nothing."""

    state = run(return_state=True)
    assert isinstance(state.data, RunnerError)
    lines = [line.split() for line in str(state.data).splitlines()]
    assert ["python", "2.7", f"{sys.version_info[0]}.{sys.version_info[1]}"] in lines
    assert any(line[:1] == ["prefect_core"] and line[1] == line[2] for line in lines)
