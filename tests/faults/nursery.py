"""Runs functions in processes that may be killed, some milliseconds each: a process that has loaded everything forks for each.

    python -m tests.faults.nursery

reads one request a line, as JSON, from its standard input, and answers each with the exit code of the child, negative for a signal.
It opens no history and has no threads, so that its children are as good as fresh processes.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from prefect_core import crash_points
from tests.integration.programs import ROOT

CHILD_SECONDS = 40
KILLED = -signal.SIGKILL
_LOADED = (
    "anyio",
    "anyio._backends._asyncio",
    "pydantic",
    "sqlite3",
    "cloudpickle",
    "prefect_runners.concurrent",
    "prefect_core.cli.main",
)


class Nursery:
    """The process that forks, from outside; it is started by way of another command if one is given."""

    def __init__(self, *around: str) -> None:
        self._process = subprocess.Popen(
            [*around, sys.executable, "-m", "tests.faults.nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, home: Path, function: str, *arguments: Any, crash_at: str = "", **variables: str) -> int:
        """Run `module:function` in a process of its own, with this home; return its exit code. What it writes is in `home/errors`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        home.mkdir(parents=True, exist_ok=True)
        request = {
            "function": function,
            "arguments": arguments,
            "crash_at": crash_at,
            "errors": str(home / "errors"),
            "variables": {"PREFECT_CORE_HOME": str(home), "PREFECT_CORE_LOGGING_LEVEL": "CRITICAL", **variables},
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        assert code in (0, KILLED), (home / "errors").read_text()[-3000:]
        return code

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def serve() -> None:
    for name in _LOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        module, _, name = request["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        gc.freeze()
        child = os.fork()
        if child == 0:
            _be_child(request, function)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _be_child(request: dict[str, Any], function: Any) -> None:
    signal.alarm(CHILD_SECONDS)
    errors = os.open(request["errors"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    faulthandler.dump_traceback_later(CHILD_SECONDS / 2)
    os.environ.update(request["variables"])
    name, _, count = request["crash_at"].partition(":")
    crash_points._name, crash_points._count = name, int(count or "1")
    code = 1
    try:
        from prefect_core import history, settings

        settings.forget()
        function(*request["arguments"])
        recorder = history.install(None)
        if recorder is not None:
            recorder.close()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
