"""Runs flows of a file by the command line, each in a process of its own, and looks at what they left.

What only reads is called in this process: a test does so many times, and a process for each would take most of its seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from prefect_core import settings
from prefect_core.cli.main import program

COMMAND = str(Path(sys.executable).parent / "prefect-core")
READING = {
    ("flow-run", "inspect"),
    ("flow-run", "logs"),
    ("flow-run", "ls"),
    ("results", "ls"),
    ("task-run", "explain"),
    ("task-run", "inspect"),
    ("task-run", "ls"),
    ("db", "check"),
    ("db", "stats"),
}


class Flows:
    """A folder with a file of flows, `work.py`."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.home = home

    def write(self, code: str) -> None:
        (self.folder / "work.py").write_text(code)

    def call(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Call `prefect-core` and wait for its end."""
        if arguments[:2] in READING and not environment:
            return self.call_here(*arguments)
        return subprocess.run(
            [COMMAND, *arguments],
            cwd=self.folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    def call_here(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Call `prefect-core` in this process."""
        out, errors = StringIO(), StringIO()
        settings.forget()
        with chdir(self.folder), redirect_stdout(out), redirect_stderr(errors):
            try:
                program.main(list(arguments), prog_name="prefect-core")
            except SystemExit as ended:
                code = int(ended.code or 0)
            finally:
                # The next command, and the test itself, may have another home.
                settings.forget()
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())

    def python(self, script: str) -> None:
        """Run a script of the folder by Python itself."""
        subprocess.run([sys.executable, script], cwd=self.folder, check=True, capture_output=True, timeout=50)

    def json(self, *arguments: str) -> Any:
        """Return what a command prints with `--json`."""
        called = self.call(*arguments, "--json")
        assert called.stdout, called.stderr
        return json.loads(called.stdout)

    def run(self, flow: str, *options: str, **environment: str) -> str:
        """Run a flow, however it ends, and return the id of its run."""
        called = self.call("run", f"work.py:{flow}", *options, **environment)
        assert "Created flow run" in called.stderr, called.stderr
        return self.newest(flow)

    def newest(self, flow: str) -> str:
        """Return the id of the newest run of a flow."""
        newest: str = self.json("flow-run", "ls", "--flow", flow.replace("_", "-"))[0]["id"]
        return newest

    def inspect(self, run: str) -> Any:
        return self.json("flow-run", "inspect", run)

    def state(self, run: str) -> str:
        name: str = self.inspect(run)["state"]["name"]
        return name

    def explain(self, flow_run: str, name: str) -> Any:
        """Explain the newest task run of this name in a flow run."""
        runs = self.json("task-run", "ls", "--flow-run", flow_run)
        return self.json("task-run", "explain", next(run["id"] for run in runs if run["name"] == name))

    def bodies(self) -> list[str]:
        """Return what bodies wrote to the file `bodies`, and empty it."""
        file = self.folder / "bodies"
        lines = file.read_text().split() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    def touch(self, name: str) -> None:
        """Make a file that a flow looks for."""
        (self.folder / name).touch()

    @contextmanager
    def under_way(self, flow: str, *options: str) -> Iterator[subprocess.Popen[str]]:
        """Run a flow that prints a line when it has come to where it waits; whatever is left of it in the end is killed."""
        process = subprocess.Popen(
            [COMMAND, "run", f"work.py:{flow}", *options],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "waiting\n"
            yield process
        finally:
            process.kill()
            process.communicate()

    def killed(self, flow: str, *options: str) -> str:
        """Run a flow, kill it with -9 where it waits, and return the id of its run."""
        with self.under_way(flow, *options) as process:
            process.send_signal(signal.SIGKILL)
            process.wait()
        return self.newest(flow)

    def race(self, script: Path, run: str, rounds: int) -> Counter[str]:
        """Tell two processes of a script a run, at the same moment and again and again; returns how often each first word was answered."""
        outcomes: Counter[str] = Counter()
        with self.racers(script) as processes:
            for _ in range(rounds):
                for process in processes:
                    assert process.stdin is not None
                    process.stdin.write(f"{run}\n")
                    process.stdin.flush()
                for process in processes:
                    assert process.stdout is not None
                    outcomes[process.stdout.readline().partition(":")[0].strip()] += 1
        return outcomes

    @contextmanager
    def racers(self, script: Path) -> Iterator[list[subprocess.Popen[str]]]:
        """Run a script in two processes, which are told lines and answer them."""
        started = [
            subprocess.Popen(
                [sys.executable, str(script)],
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for _ in range(2)
        ]
        try:
            yield started
        finally:
            for process in started:
                process.kill()
                process.communicate()

    @contextmanager
    def history(self) -> Iterator[sqlite3.Connection]:
        """Open the file of the history, to make of it what no test could wait for."""
        connection = sqlite3.connect(self.home / "history.db")
        try:
            yield connection
            connection.commit()
        finally:
            connection.close()
