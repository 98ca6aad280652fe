"""What pyproject.toml promises, held against what is there."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RUNNERS = entry_points(group="prefect_core.task_runners")
SERIALIZERS = entry_points(group="prefect_core.serializers")


def test_the_oldest_dependencies_under_test_are_the_lower_bounds() -> None:
    # Of the extras, only what the tests of every Python use.
    extras = PROJECT["optional-dependencies"]
    bounds = dict(line.split(">=") for line in [*PROJECT["dependencies"], *extras["remote"], *extras["terminal"]])
    text = (ROOT / "tests" / "packaging" / "oldest.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([a-z]+)==([\d.]+)$", text, re.MULTILINE))
    assert pins == {name: version if version.count(".") == 2 else version + ".0" for name, version in bounds.items()}


def test_each_runner_of_the_metadata_can_be_loaded() -> None:
    assert {"sequential", "concurrent", "processes"} <= RUNNERS.names
    for runner in RUNNERS:
        assert isinstance(runner.load(), type)


def test_each_serializer_of_the_metadata_can_be_loaded() -> None:
    assert {"pickle", "json", "compressed"} <= SERIALIZERS.names
    for serializer in SERIALIZERS:
        assert isinstance(serializer.load(), type)


def test_the_command_of_the_metadata_can_be_loaded() -> None:
    (script,) = entry_points(group="console_scripts", name="prefect-core")
    assert callable(script.load())


@pytest.mark.parametrize("package", ["prefect_core", "runners/prefect_runners", "serializers/prefect_serializers"])
def test_each_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
