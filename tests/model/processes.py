"""The world in which each player is a process, which is really killed: forked by one that has loaded everything.

    python -m tests.model.processes

reads one order a line, as JSON, from its standard input, and answers each with the number of the process that carries it out.
"""

from __future__ import annotations

import faulthandler
import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from prefect_core import history, settings
from prefect_core.control.reaping import reap
from prefect_core.history.process import this_user
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.history.store import HistoryStore
from tests.integration.programs import ROOT
from tests.model import worlds
from tests.model.stage import Stage

BRIEF = {
    "PREFECT_CORE_LEASE_BEAT_SECONDS": "0.1",
    "PREFECT_CORE_INTERRUPT_GRACE_SECONDS": "0.2",
    "PREFECT_CORE_LOGGING_LEVEL": "CRITICAL",
}
LIFE_SECONDS = 300


class _ProcessPlayer:
    def __init__(self, pid: int, told: Path) -> None:
        self.pid = pid
        self._told = told

    @property
    def is_gone(self) -> bool:
        return not Path(f"/proc/{self.pid}").exists()

    def outcome(self) -> str | None:
        gone = self.is_gone
        if self._told.exists():
            return self._told.read_text()
        return "died" if gone else None


class Processes:
    """Runs in processes of their own, over the history in a file."""

    can_run_again = True

    def __init__(self, stage: Stage, home: Path) -> None:
        self._stage = stage
        self._home = home
        self._numbers = itertools.count()
        self._players: list[_ProcessPlayer] = []
        self._store = SqliteStore(home)
        self._errors = (home / "errors").open("a+")
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.model.processes"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **BRIEF},
            text=True,
        )

    def play(self, mode: str, about: Any) -> worlds.Player:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        told = self._home / f"told-{next(self._numbers)}"
        self._server.stdin.write(json.dumps([mode, about, str(told)]) + "\n")
        self._server.stdin.flush()
        player = _ProcessPlayer(int(self._server.stdout.readline()), told)
        self._players.append(player)
        return player

    def history(self) -> HistoryStore:
        return self._store

    def lose(self, run: int, is_told: bool) -> None:
        """Kill the process that has a run; or take it for dead, which it finds out by itself, and ends (`is_told`)."""
        control = self._store.control()
        number = control.owner(run)
        lease = control.lease(number)
        if lease is None:
            # It has ended, and left nothing open.
            return
        player = next(player for player in self._players if player.pid == lease.process.pid)
        if not is_told:
            self._kill(player)
        # It may have ended or, by a beat, spoken up in between.
        while lease is not None and lease.taken_by is None and control.take_lease(lease, this_user()) is None:
            lease = control.lease(number)
        self._until_gone(player)
        self._stage.end(number)
        reap(control)

    def _kill(self, player: _ProcessPlayer) -> None:
        try:
            os.kill(player.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended by itself
        self._until_gone(player)

    def _until_gone(self, player: _ProcessPlayer) -> None:
        give_up = time.monotonic() + worlds.LONG_SECONDS
        while not player.is_gone:
            assert time.monotonic() < give_up, "a process that was taken for dead does not end"
            time.sleep(0.002)

    def close(self) -> None:
        for player in self._players:
            if not player.is_gone:
                self._kill(player)
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait()
        self._errors.close()
        self._store.close()


def serve() -> None:
    # Nobody waits for the children: they are gone as soon as they have ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        gc.freeze()
        child = os.fork()
        if child == 0:
            _be_player(*json.loads(line))
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


def _be_player(mode: str, about: Any, told: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(2, 1)
    signal.alarm(LIFE_SECONDS)
    faulthandler.dump_traceback_later(LIFE_SECONDS / 2)
    try:
        settings.forget()
        try:
            outcome = worlds.play(mode, about)
        except BaseException as error:
            outcome = f"raised {error!r}"
        recorder = history.install(None)
        if recorder is not None:
            recorder.close()
        Path(f"{told}.new").write_text(outcome)
        Path(f"{told}.new").rename(told)
    finally:
        os._exit(0)


if __name__ == "__main__":
    serve()
