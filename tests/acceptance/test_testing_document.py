"""The samples of docs/testing.md run as they stand there."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

from prefect_core import history
from prefect_core.testing.runner_contract import RunnerContract

DOCUMENT = Path(__file__).parents[2] / "docs" / "testing.md"
TESTED, FIXTURE, STEPPED, RUNNER, ENGINE = re.findall(
    r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL
)


def names_of(*samples: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "sample", "threading": threading}
    for sample in samples:
        exec(sample, names)
    return names


def test_a_flow_that_waits_for_hours_is_tested_in_no_time() -> None:
    names_of(TESTED)["test_a_flow_waits_two_hours_in_no_time"]()


def test_a_clock_that_stands_still_orders_a_test() -> None:
    names = names_of(TESTED, STEPPED)
    assert not names["runner"].is_alive()
    assert len(names["flaky"].fn.__defaults__[0]) == 3


def test_the_steps_of_a_lifecycle_are_driven_by_hand() -> None:
    before = history.install(None)
    try:
        assert names_of(TESTED, ENGINE)["driven"].kinds() == ["Call", "Sleep"]
    finally:
        history.install(before)


def test_the_fixture_and_the_suite_of_a_runner_are_what_pytest_can_take() -> None:
    assert "world" in names_of("import pytest", TESTED, FIXTURE)
    own = RUNNER.replace("from my_package import MyTaskRunner", "MyTaskRunner = None")
    assert issubclass(names_of(own)["TestMyTaskRunner"], RunnerContract)
