"""What holds for every test: a throw-away home, no settings from outside, and the profiles of hypothesis."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from prefect_core import history, settings

# Time limits per example would fail on a busy machine; the limit per test stands in pyproject.toml.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, max_examples=50, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")

# For what goes on behind its test: a late body must not open the history of whoever runs these.
_BETWEEN_TESTS = tempfile.TemporaryDirectory(prefix="prefect-core-tests-", ignore_cleanup_errors=True)
os.environ["PREFECT_CORE_HOME"] = _BETWEEN_TESTS.name

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a script starts by `&` ignores Ctrl-C, and so would every program that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long: of several processes, none is to be left with it while the others have nothing more to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the test, and the processes it starts, an empty PREFECT_CORE_HOME that is closed behind it."""
    home = tmp_path_factory.mktemp("home")
    for name in os.environ:
        if name.startswith(settings.PREFIX) and name != "PREFECT_CORE_EXAMPLES_CACHE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_CORE_HOME", str(home))
    settings.forget()
    yield home
    recorder = history.install(None)
    if recorder is not None:
        recorder.close()
    settings.forget()
