"""Executes a flow again and again as further processes would, each with a recorder of its own, over one history in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio

from prefect_core import history, settings
from prefect_core.engine.ledger import Ledger, flow_run_of, reopening
from prefect_core.history import StoreRecorder
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.states import State

ARGUMENTS = {"logging_level": "CRITICAL", "storage_retry_seconds": 0.2, "cancel_grace_seconds": 0.2}


class Attempts:
    """The executions of one flow run, and the bodies that ran in the last one."""

    def __init__(self, home: Path, **values: Any) -> None:
        self.home = home
        self.bodies: list[Any] = []
        self.number = 0
        """Of the execution: 1 for the first."""
        self.scratch: dict[str, Any] = {}
        """For what bodies share; a local function that closed over it could not be told from others."""
        self._values = {**ARGUMENTS, "home": home, **values}
        self._key = 0

    def run(self, flow: Any, *arguments: Any, backend: str | None = None) -> State:
        """Run the flow, or go on with its run, in what is as good as a new process."""
        self.number += 1
        self.bodies = []
        with self._process() as recorder:
            if not self._key:
                state = _carry_out(flow, arguments, backend)
                recorder.flush()
                self._key = next(row.key for row in recorder.stored().flow_runs() if row.parent_flow_run is None)
                return state
            stored = recorder.stored()
            claimed = stored.reopen_run(self._key, recorder.process, "a test", lambda process: True)
            run = flow_run_of(claimed.run, None, claimed.attempts)
            with reopening(run, Ledger(self._key, stored)):
                return _carry_out(flow, arguments, backend)

    @contextmanager
    def _process(self) -> Iterator[StoreRecorder]:
        with settings.temporary_settings(**self._values):
            recorder = StoreRecorder(history.open_store(self.home))
            before = history.install(recorder)
            try:
                yield recorder
            finally:
                history.install(before)
                recorder.close()

    @contextmanager
    def store(self) -> Iterator[SqliteStore]:
        """Open the history to look at it."""
        store = SqliteStore(self.home)
        try:
            assert store.check() == []
            yield store
        finally:
            store.close()

    def states_of(self, task: str) -> list[list[str]]:
        """Return the names of the states of each run of a task, in the order in which the runs were made."""
        with self.store() as store:
            rows = sorted((row for row in store.task_runs() if row.task_name == task), key=lambda row: row.key)
            return [[state.name for state in store.states(row.key)] for row in rows]


_current: list[Attempts] = []


def now() -> Attempts:
    """Return the executions of this test. What a body closes over counts for what it is, and what it asks for here does not."""
    return _current[-1]


def begin(attempts: Attempts) -> Attempts:
    """Make these the executions of the test."""
    _current[:] = [attempts]
    return attempts


def ran(name: Any) -> None:
    """Take note that a body ran."""
    now().bodies.append(name)


def end_first() -> None:
    """Fail in the first execution: what comes before is all that is left of it."""
    if now().number == 1:
        raise ValueError("the first execution ends here")


def _carry_out(flow: Callable[..., Any], arguments: tuple[Any, ...], backend: str | None) -> State:
    if backend is None:
        state: State = flow(*arguments, return_state=True)
        return state

    async def go() -> State:
        ended: State = await flow(*arguments, return_state=True)
        return ended

    return anyio.run(go, backend=backend)
