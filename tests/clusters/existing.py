"""A Dask cluster as an operator starts it: `dask scheduler` and `dask worker`, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import distributed

_READY_SECONDS = 30
_ENDS_ALONE = ("--idle-timeout", "300 s")
"""Where the tests are killed, nobody ends it; it then ends by itself, and its workers behind it."""


class ExistingCluster:
    """Starts with the block and ends with it; no worker has a nanny, so one that is killed stays dead."""

    def __init__(
        self, folder: Path, workers: int, environment: dict[str, str] | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.folder = folder
        self._host = host
        self.address = ""
        self._file = folder / "scheduler.json"
        self.environment = {**os.environ, **(environment or {})}
        self._count = workers
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.scheduler = self._start(
            "dask_scheduler", "--port", "0", "--dashboard-address", "127.0.0.1:0", *_ENDS_ALONE
        )
        self.address = self._address()
        for _ in range(self._count):
            self.add_worker()
        return self

    def add_worker(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a worker of one thread."""
        given = (
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
            "--local-directory",
            str(self.folder),
            "--name",
            str(len(self.workers)),
            *options,
        )
        worker = self._start("dask_worker", *given)
        self.workers.append(worker)
        return worker

    def _start(self, command: str, *options: str) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-m", f"distributed.cli.{command}", "--host", self._host]
        log = (self.folder / f"{command}-{len(self.workers)}.log").open("wb")
        with log:
            return subprocess.Popen(
                [*program, "--scheduler-file", str(self._file), *options], stdout=log, stderr=log, env=self.environment
            )

    def _address(self) -> str:
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            try:
                return str(json.loads(self._file.read_text())["address"])
            except (OSError, ValueError, KeyError):
                assert time.monotonic() < deadline, self.logs()
                time.sleep(0.02)

    def logs(self) -> str:
        """Return what the processes wrote."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def kill_worker(self, pid: int) -> None:
        """End a worker process at once, and wait until the scheduler knows."""
        os.kill(pid, signal.SIGKILL)
        self._wait_until_gone(pid)

    def end_worker(self, pid: int) -> None:
        """Ask a worker to leave in good order, whatever it is about."""
        os.kill(pid, signal.SIGTERM)
        self._wait_until_gone(pid)

    def _wait_until_gone(self, pid: int) -> None:
        name = next(str(index) for index, worker in enumerate(self.workers) if worker.pid == pid)
        with distributed.Client(self.address, set_as_default=False) as client:
            deadline = time.monotonic() + _READY_SECONDS
            while name in {str(told["name"]) for told in client.scheduler_info(n_workers=-1)["workers"].values()}:
                assert time.monotonic() < deadline, self.logs()
                time.sleep(0.02)

    def kill_scheduler(self) -> None:
        assert self.scheduler is not None
        self.scheduler.kill()
        self.scheduler.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Killed: in good order each would wait for the other.
        for process in [*self.workers, self.scheduler]:
            if process is not None:
                process.kill()
                process.wait()


def not_of_ray() -> dict[str, str]:
    """Return this process's environment without what a Ray of another test has left there, such as its address."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
