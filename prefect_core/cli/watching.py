"""Lets the command line see what the engine records, while it records it.

A listener stands before the recorder only for as long as there is something to hear, so a run that nobody watches costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect_core import history
from prefect_core.history import Recorder
from prefect_core.runs import FlowRun, Run, TaskRun
from prefect_core.states import State

Listener = Callable[[Run, State], None]
"""Called with each new state of each run, the first one included, on whatever thread records it; it must be quick and never raise."""


class _Watched:
    """A recorder that tells a listener what it has handed on."""

    def __init__(self, recorder: Recorder, listener: Listener) -> None:
        self._recorder = recorder
        self._listener = listener
        self.renamed = recorder.renamed
        self.logged = recorder.logged
        self.noted = recorder.noted
        self.new_key = recorder.new_key
        self.stored = recorder.stored
        self.check_is_near = recorder.check_is_near
        self.has_unanswered = recorder.has_unanswered
        self.limits = recorder.limits
        self.durable = recorder.durable
        self.flush = recorder.flush
        self.close = recorder.close

    @property
    def owns_runs(self) -> bool:
        return self._recorder.owns_runs

    @property
    def process(self) -> int:
        return self._recorder.process

    def created(self, run: Run) -> None:
        self._recorder.created(run)
        self._listener(run, run.state)

    def entered(self, run: Run, state: State) -> None:
        self._recorder.entered(run, state)
        self._listener(run, state)

    def ran(self, run: TaskRun, started_us: int, state: State) -> None:
        history.enter_both(self, run, started_us, state)


@contextmanager
def watched(listener: Listener) -> Iterator[None]:
    """Tell `listener` of every state that this process records during the block. Raises `HistoryError` if there is no history."""
    recorder = history.current()
    history.install(_Watched(recorder, listener))
    try:
        yield
    finally:
        history.install(recorder)


@contextmanager
def first_flow_run() -> Iterator[list[FlowRun]]:
    """Give a list that gets the first flow run of the block as soon as there is one. Raises `HistoryError` if there is no history."""
    recorder = history.current()
    found: list[FlowRun] = []

    def note(run: Run, _state: State) -> None:
        if isinstance(run, FlowRun) and not found:
            found.append(run)
            # All is heard; what comes now goes straight to the recorder again.
            history.install(recorder)

    history.install(_Watched(recorder, note))
    try:
        yield found
    finally:
        history.install(recorder)


def _stop_in_child() -> None:
    # A child made by `fork` must not write through its parent's recorder; it opens its own.
    recorder = history.install(None)
    if not isinstance(recorder, _Watched):
        history.install(recorder)


os.register_at_fork(after_in_child=_stop_in_child)
