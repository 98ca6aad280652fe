"""One worker process as the main process sees it: started, spoken to over a pipe, asked, killed, and always reaped.

It leads a process group of its own, so that what bodies start can be ended with it.

It is a fresh interpreter (no `fork`, which would copy locks that other threads hold), started without `multiprocessing`, which would run
the main script again in each worker and so demand an `if __name__ == "__main__"` guard of every program. Nothing needs the script there:
what is defined in it travels by value.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
from contextlib import suppress
from multiprocessing import Pipe
from typing import NamedTuple
from weakref import WeakSet

from prefect_core.engine.workplace import MOST_LOADED, Parcel
from prefect_core.errors import RunnerError
from prefect_runners.worker_main import FAILED, READY

_BOOT = "import sys; sys.path[:] = eval(sys.argv[1]); from prefect_runners.worker_main import main; main(*map(int, sys.argv[2:5]))"


class Gone(Exception):
    """The process has ended, or ended its side of the pipe."""


class Boot(NamedTuple):
    """What every worker of a runner is started with."""

    path: list[str]
    initializer: bytes | None


class WorkerProcess:
    """A worker process. Used by one thread at a time, but for `kill`."""

    def __init__(self, boot: Boot) -> None:
        self._channel, theirs = Pipe()
        their_lifeline, self._lifeline = os.pipe()
        their_silent, self._silent = os.pipe()
        # A worker that is kept from reading must not keep who asks it.
        os.set_blocking(self._lifeline, False)
        command = [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", _BOOT]  # type: ignore[attr-defined]  # as multiprocessing does
        numbers = (theirs.fileno(), their_lifeline, their_silent)
        try:
            self._process = subprocess.Popen(
                [*command, repr(boot.path), *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                pass_fds=numbers,
                process_group=0,
            )
        except BaseException:
            os.close(self._lifeline)
            os.close(self._silent)
            self._channel.close()
            raise
        finally:
            theirs.close()
            os.close(their_lifeline)
            os.close(their_silent)
        self.name = f"{os.uname().nodename}:{self._process.pid}"
        self._has: set[int] = set()
        self._poll = select.poll()
        self._poll.register(self._channel.fileno(), select.POLLIN)
        self._boot = boot
        _processes.add(self)

    @property
    def pid(self) -> int:
        return self._process.pid

    def greet(self) -> None:
        """Wait until it is ready. Raises `RunnerError` if its initializer failed, and `Gone`."""
        self._send_bytes(pickle.dumps((sys.argv, self._boot.initializer)))
        answer = self._receive()
        if answer[:1] == FAILED:
            raise RunnerError(f"The initializer of the worker processes failed: {answer[1:].decode()}.")
        if answer != READY:
            raise Gone

    def send(self, parcel: Parcel) -> None:
        """Hand over a parcel, without the bytes that it has already. Raises `Gone`, and then it has not got it."""
        if self._poll.poll(0):
            # It says nothing unasked: that is its end.
            raise Gone
        surroundings = None if self._knows(parcel.surroundings) else parcel.surroundings_bytes
        task = None if self._knows(parcel.task) else parcel.task_bytes
        self._send_bytes(pickle.dumps((parcel.surroundings, surroundings, parcel.task, task, parcel.call)))

    def _knows(self, number: int) -> bool:
        """Tell whether the process keeps what has this number, by the rule of `Workplace`."""
        if number in self._has:
            return True
        if len(self._has) >= MOST_LOADED:
            self._has.clear()
        self._has.add(number)
        return False

    def receive(self, seconds: float) -> bytes | None:
        """Return the next message, or None if there is none for some time. Raises `Gone`."""
        if self._poll.poll(seconds * 1000):
            return self._receive()
        # A process that the body started may hold the pipe open.
        if self._process.poll() is not None and not self._poll.poll(0):
            raise Gone
        return None

    def _receive(self) -> bytes:
        try:
            return self._channel.recv_bytes()
        except (EOFError, OSError) as error:
            raise Gone from error

    def _send_bytes(self, content: bytes) -> None:
        try:
            self._channel.send_bytes(content)
        except OSError as error:
            raise Gone from error

    def ask(self) -> None:
        """Have it say whether the body under way has begun, and what happened in it."""
        self._say(b"?")

    def _say(self, word: bytes) -> None:
        try:
            os.write(self._lifeline, word)
        except OSError:
            # It ended, which the next `receive` finds out, or it has been kept from reading for hours.
            return

    def terminate(self) -> None:
        """Ask the body that it runs to end, or itself without one, from any thread."""
        self._say(b"!")

    def kill(self) -> None:
        """End it at once with all that its bodies started in its process group, from any thread."""
        # While any of them lives, the number is nobody else's.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self, grace_seconds: float) -> None:
        """Let it end by itself, kill it after the grace period, and wait until it is gone."""
        self._channel.close()
        try:
            self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        os.close(self._lifeline)
        os.close(self._silent)
        _processes.discard(self)

    def how_it_ended(self) -> str:
        """Reap the process, which is on its way out, and say how it ended: "was killed by signal 9 (SIGKILL)"."""
        self.close(1.0)
        # What it leaves of a body that was under way.
        self.kill()
        code = self._process.returncode
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
        return f"was killed by signal {-code} ({name})"

    def _forget(self) -> None:
        """Let go of a process that is not this one's child: this process was made by fork."""
        self._process.returncode = 0
        for number in (self._channel.fileno(), self._lifeline, self._silent):
            try:
                os.close(number)
            except OSError:
                # It was closed before.
                continue


_processes: WeakSet[WorkerProcess] = WeakSet()


def _forget_all() -> None:
    for process in list(_processes):
        process._forget()
    _processes.clear()


os.register_at_fork(after_in_child=_forget_all)
