"""Where the flow of the model runs: on threads of this process over any history, or in processes that are really killed.

What both know of a run is its key; what plays a run is a `Player`. A process that ends is a killed one, or, on threads, one whose lease
was taken: nothing that it does is recorded any more, and its bodies end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from prefect_core import clock, history, reexecution, resuming
from prefect_core.cli.execution import carry_out
from prefect_core.control import steward
from prefect_core.errors import LeaseLost, PrefectException
from prefect_core.history.memory import MemoryStore
from prefect_core.history.recorder import StoreRecorder
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.history.store import HistoryStore
from tests.model.stage import Stage
from tests.model.story import story

LONG_SECONDS = 50.0
REFUSED = "refused"


class Player(Protocol):
    """Somebody who runs a run, or tries to."""

    def outcome(self) -> str | None:
        """Return the name of the state that the run ended in here, "refused: ..." or, while it goes on, None."""
        ...


def play(mode: str, about: Any) -> str:
    """Start a run of a plan, retry a run, or resume one that is suspended, here and now; returns the outcome."""
    try:
        if mode == "start":
            return carry_out(story, [about], {}).state.name
        if mode == "retry":
            again = reexecution.find(about)
            around = reexecution.reopened(again)
        else:
            with history.reading() as stored:
                found = resuming.Found(stored, about)
            again, given = resuming.prepared(found, None)
            around = resuming.resumed(again, given)
        with around:
            return carry_out(again.flow, again.args, again.kwargs).state.name
    except PrefectException as error:
        return f"{REFUSED}: {type(error).__name__}: {error}"


class _ThreadPlayer:
    def __init__(self, mode: str, about: Any) -> None:
        self._outcome: str | None = None
        self.thread = threading.Thread(target=self._play, args=(mode, about), name=f"player-{mode}")
        self.thread.start()

    def _play(self, mode: str, about: Any) -> None:
        try:
            self._outcome = play(mode, about)
        except BaseException as error:
            self._outcome = f"raised {error!r}"

    def outcome(self) -> str | None:
        return None if self.thread.is_alive() else self._outcome


class Threads:
    """Runs on threads of this process, which has a new number in the history whenever it lost its lease."""

    def __init__(self, stage: Stage, home: Path, make_store: Callable[[Path], HistoryStore]) -> None:
        self._stage = stage
        self._home = home
        self._make_store = make_store
        self.can_run_again = make_store is not in_memory
        self._store = make_store(home)
        self._players: list[_ThreadPlayer] = []
        self.recorder = self._open()
        self._before = history.install(self.recorder)

    def _open(self) -> StoreRecorder:
        # One that has no steward for its lease, which would end this process on losing it.
        return StoreRecorder(self._store if not self.can_run_again else self._make_store(self._home))

    def play(self, mode: str, about: Any) -> Player:
        player = _ThreadPlayer(mode, about)
        self._players.append(player)
        return player

    def history(self) -> HistoryStore:
        """Give the history, with all that was recorded."""
        self.recorder.flush()
        return self._store

    def lose(self, _run: int, is_told: bool) -> None:
        """Take the process for dead; it finds out by its beat (`is_told`) or by what it writes next, and ends."""
        control = self.history().control()
        lease = control.lease(self.recorder.process)
        assert lease is not None
        assert control.take_lease(lease, "the model") is not None
        assert control.take_lease(lease, "another model") is None
        if is_told:
            self.recorder.lose_lease()
        self.recorder.logged(None, 20, "model", "still there", clock.now_us())
        with pytest.raises(LeaseLost):
            self.recorder.flush()
        self._end_all()
        lost, self.recorder = self.recorder, self._open()
        history.install(self.recorder)
        lost.close()

    def _end_all(self) -> None:
        """End all that goes on in the process."""
        self._stage.end(self.recorder.process)
        for watch in list(steward._steward._watches):
            # Those that wait at a gate, which nobody will open any more.
            call = watch._deliver.args[0]
            if call.context.pausing is not None:
                call.context.pausing.abandon()
        self.join()

    def join(self) -> None:
        """Wait for all players to end."""
        for player in self._players:
            player.thread.join(LONG_SECONDS)
            assert not player.thread.is_alive(), "a run does not end"

    def close(self) -> None:
        self._end_all()
        history.install(self._before)
        self.recorder.close()
        self._store.close()


def in_memory(_home: Path) -> HistoryStore:
    return MemoryStore()


def in_a_file(home: Path) -> HistoryStore:
    return SqliteStore(home)
