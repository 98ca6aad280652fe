"""A throw-away world around a test: a home of its own, no settings from outside, and a history that can be asked."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from prefect_core import clock as clocks
from prefect_core import history, settings
from prefect_core.history.memory import MemoryStore
from prefect_core.history.store import HistoryStore
from prefect_core.testing.fake_clock import FakeClock


class Harness:
    """What `harness()` gives: the folder that is PREFECT_CORE_HOME, and the history of what ran inside."""

    def __init__(self, home: Path, store: HistoryStore, clock: clocks.Clock) -> None:
        self.home = home
        self.clock = clock
        self._store = store

    @property
    def store(self) -> HistoryStore:
        """The history, with all that was recorded until now in it."""
        history.current().flush()
        return self._store

    def state_names(self, name: str) -> list[str]:
        """Return the names of all states of one task run or flow run, first to last, found by the run's name."""
        store = self.store
        found = [row.key for row in (*store.task_runs(), *store.flow_runs()) if row.name == name]
        return [state.name for state in store.states(found[0])] if found else []


@contextmanager
def harness(
    history: Literal["memory", "sqlite"] = "memory", clock: FakeClock | None = None, **values: Any
) -> Iterator[Harness]:
    """Run a `with` block in a throw-away home and put everything back behind it.

    Environment variables PREFECT_CORE_* and settings files don't reach the block; `values` are settings by name. The history is kept in
    memory, or in a real file with `history="sqlite"`, which other processes that the test starts can write too. `clock` takes the place
    of the machine's. Not for use by several threads at once: settings and history belong to the whole process.
    """
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="prefect-core-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        stack.enter_context(_environment(home))
        stack.enter_context(settings.temporary_settings(**{**_defaults(), "home": home, **values}))
        if clock is not None:
            stack.enter_context(clock)
        store = stack.enter_context(_recording(history, home))
        yield Harness(home, store, clock or clocks.current())


def _defaults() -> dict[str, Any]:
    return {setting.name: setting.default for setting in settings.SETTINGS}


@contextmanager
def _environment(home: Path) -> Iterator[None]:
    """Hide the variables of prefect_core, and name the home for processes that the block starts."""
    before = {name: value for name, value in os.environ.items() if name.startswith(settings.PREFIX)}
    for name in before:
        del os.environ[name]
    os.environ["PREFECT_CORE_HOME"] = str(home)
    try:
        yield
    finally:
        os.environ.pop("PREFECT_CORE_HOME", None)
        os.environ.update(before)


@contextmanager
def _recording(kind: str, home: Path) -> Iterator[HistoryStore]:
    """Record into a fresh history, and read from it."""
    memory = MemoryStore()
    before = history.install(history.StoreRecorder(memory) if kind == "memory" else None)
    store: HistoryStore = memory
    try:
        # A file is made and checked now, so that a test fails here and not in its middle.
        if kind == "sqlite":
            store = history.open_store(home)
        yield store
    finally:
        recorder = history.install(before)
        if recorder is not None:
            recorder.close()
        if kind == "sqlite":
            store.close()
