"""Runs the writing program, under strace where asked, and judges what is in the storage afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from prefect_core import crash_points
from prefect_core.storage.local import LocalStorage

ROOT = Path(__file__).parents[3]
STRACE = shutil.which("strace")
KEY = "run/object"
SIZE = 2_500_000
EARLIER, NEW = 1, 2


class Outcome(NamedTuple):
    """How the program ended, and what it said."""

    code: int
    word: str
    reason: str
    errors: str


def write(folder: Path, *options: object, crash_at: str = "", inject: str = "") -> Outcome:
    """Run the program to its end, killed at a crash point, or with strace disturbing its system calls."""
    tracer: list[str] = []
    if inject:
        assert STRACE is not None
        calls = inject.partition(":")[0]
        tracer = [STRACE, "-f", "-qqq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={inject}"]
    ended = subprocess.run(
        [
            *tracer,
            sys.executable,
            "-B",
            "-m",
            "tests.integration.storage.writing",
            str(folder),
            KEY,
            str(NEW),
            *map(str, options),
        ],
        cwd=ROOT,
        env={**os.environ, crash_points.VARIABLE: crash_at, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    word, _, reason = ended.stdout.strip().partition(" ")
    return Outcome(ended.returncode, word, reason, ended.stderr)


def write_earlier(folder: Path) -> None:
    LocalStorage(folder).write(KEY, [bytes([EARLIER]) * SIZE])


def found(folder: Path) -> int | None:
    """Return which object is there, whole; None if there is none."""
    storage = LocalStorage(folder)
    keys = [found.key for found in storage.objects()]
    if not keys:
        assert storage.size(KEY) is None
        return None
    assert keys == [KEY]
    with closing(storage.open(KEY)) as stream:
        content = stream.read()
    assert len(content) == storage.size(KEY) == SIZE
    assert len(set(content)) == 1
    return content[0]


def temporary_files(folder: Path) -> list[Path]:
    return list(folder.rglob(".tmp-*"))
