"""Which process this is, so that a reader on the same machine can tell whether it still lives."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class ProcessIdentity(NamedTuple):
    """A process, told apart from later ones with the same number. Texts and numbers are "" and 0 where the system does not tell."""

    host: str
    boot_id: str
    pid: int
    pid_started: int
    """Clock ticks from the machine's start to the process's."""


IsGone = Callable[[ProcessIdentity], bool | None]
"""Tells of a process whether it has ended, None if that can't be known."""


def this_process() -> ProcessIdentity:
    """Return the identity of the calling process."""
    return ProcessIdentity(os.uname().nodename, boot_id(), os.getpid(), started(os.getpid()))


def this_user() -> str:
    """Return who runs the calling process, for people to read: `ada@host, process 17`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}, process {os.getpid()}"


def is_gone(process: ProcessIdentity) -> bool | None:
    """Tell whether a process has ended; None for one of another machine, of which nothing can be known here."""
    here = this_process()
    if process.host != here.host or not process.boot_id:
        return None
    return process.boot_id != here.boot_id or started(process.pid) != process.pid_started


def is_over(process: ProcessIdentity | None, expires_us: int, now_us: int, is_gone: IsGone) -> bool:
    """Tell whether what a process held is free, since it has ended; or, where that can't be seen, since it has been silent too long."""
    gone = is_gone(process) if process is not None else None
    return gone if gone is not None else expires_us <= now_us


def boot_id() -> str:
    """Return the identifier that the machine drew when it started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def started(pid: int) -> int:
    """Return when a process started, in clock ticks; 0 if there is no such process, or one that has ended and waits for its parent."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    # The name of the program stands in parentheses and may itself hold spaces and parentheses.
    fields = line.rpartition(")")[2].split()
    return 0 if fields[0] in {"Z", "X"} else int(fields[19])
