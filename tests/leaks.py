"""What processes have open, to be compared before and after a runner was started and stopped many times."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from prefect_core import flow, task
from prefect_core.task_runners import TaskRunner

_WARM_UP = 10
_SETTLES_SECONDS = 20
_SLACK = 4
"""Connections and threads that engines of others keep or renew: a leak in each of so many cycles is more than that."""
_OF_HISTORY = 4
"""What the history of this process opens once it has become long: to move its log, and for who reads."""


class Belongings(NamedTuple):
    """Of this process and others: how many there are."""

    processes: int
    threads: int
    files: int
    folders: int

    def exceed(self, others: Belongings) -> bool:
        """Tell whether something has come to these."""
        slack = (0, _SLACK, _SLACK + _OF_HISTORY, 0)
        return any(mine > theirs + more for mine, theirs, more in zip(self, others, slack, strict=True))


@task
def one() -> int:
    return 1


def cycles(make_runner: Callable[[], TaskRunner], times: int) -> None:
    """Start and stop so many runners, each for a flow run with a task."""
    for _ in range(times):

        @flow(task_runner=make_runner())
        def run() -> int:
            return one.submit().result()

        assert run() == 1


def owned_by(pids: Sequence[int], folders: Sequence[Path]) -> Belongings:
    """Count what this process, its children and `pids` have, and what lies in the temporary folder and in `folders`."""
    here = psutil.Process()
    children = [one.pid for one in here.children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]
    known = [psutil.Process(pid) for pid in {here.pid, *pids}]
    lying = [path for folder in (Path(tempfile.gettempdir()), *folders) for path in folder.iterdir()]
    return Belongings(
        len({*children, *pids}),
        sum(process.num_threads() for process in known),
        sum(process.num_fds() for process in known),
        len(lying),
    )


def assert_nothing_is_left(
    make_runner: Callable[[], TaskRunner],
    times: int,
    pids: Sequence[int] = (),
    folders: Sequence[Path] = (),
    engines_files: int = 0,
) -> str:
    """Compare before and after so many cycles, in each of which the engine itself may leave files open; returns what there was."""
    cycles(make_runner, min(_WARM_UP, 1 + times // 5))
    before = owned_by(pids, folders)
    cycles(make_runner, times)
    deadline = time.monotonic() + _SETTLES_SECONDS
    allowed = before._replace(files=before.files + engines_files * times)
    while (after := owned_by(pids, folders)).exceed(allowed):
        assert time.monotonic() < deadline, (before, after, open_here())
        time.sleep(0.1)
    return f"{times:,} cycles: before {tuple(before)}, after {tuple(after)} processes, threads, files, folders"


def open_here() -> list[tuple[str, int]]:
    """Return what the files of this process are, the most frequent first."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}").split(":")[0])
        except OSError:
            continue
    return Counter(links).most_common(8)
