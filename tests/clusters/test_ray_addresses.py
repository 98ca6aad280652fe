"""What is said where there is no Ray: none installed, or none at an address."""

from __future__ import annotations

import builtins
import time
from typing import Any

import pytest

from prefect_core import flow
from prefect_core.errors import ConfigurationError, RunnerError


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
