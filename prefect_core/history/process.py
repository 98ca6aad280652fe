"""Which process this is, so that a reader on the same machine can tell whether it still lives."""

from __future__ import annotations

import getpass
import os
import time
from pathlib import Path
from typing import NamedTuple


class ProcessIdentity(NamedTuple):
    """A process, told apart from later ones with the same number. Texts and numbers are "" and 0 where the system does not tell."""

    host: str
    boot_id: str
    pid: int
    pid_started: int
    """Clock ticks from the machine's start to the process's."""
    pid_namespace: str = ""
    """In which the number counts."""


def this_process() -> ProcessIdentity:
    """Return the identity of the calling process."""
    return ProcessIdentity(os.uname().nodename, boot_id(), os.getpid(), started("self"), pid_namespace())


def this_user() -> str:
    """Return who runs the calling process, for people to read: `ada@host, process 17`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}, process {os.getpid()}"


def is_gone(process: ProcessIdentity) -> bool | None:
    """Tell whether a process has ended; None for one that can't be seen from here: of another machine, or in another pid namespace."""
    here = boot_id()
    if not here or not process.boot_id:
        return None
    if process.boot_id != here:
        # The machine was started anew; one of another name is another machine.
        return True if process.host == os.uname().nodename else None
    namespace = pid_namespace()
    if not namespace or process.pid_namespace not in ("", namespace):
        return None
    now = started(process.pid)
    if now == process.pid_started:
        return False
    return True if process.pid_namespace and (now or not _is_hidden(process.pid)) else None


def _is_hidden(pid: int) -> bool:
    """Tell whether there is a process that /proc does not show, as it may keep those of other users."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return False


def pid_namespace() -> str:
    """Return in which namespace process numbers count here; "" where /proc does not tell, or shows those of another."""
    try:
        return (
            str(Path("/proc/self/ns/pid").readlink()) if str(Path("/proc/self").readlink()) == str(os.getpid()) else ""
        )
    except OSError:
        return ""


def boot_id() -> str:
    """Return the identifier that the machine drew when it started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def monotonic_us() -> int:
    """Return microseconds since this machine started, without the time that it slept: the same for all processes on it."""
    return time.monotonic_ns() // 1000


def started(pid: int | str) -> int:
    """Return when a process ("self": this one) started, in clock ticks; 0 if there is none, or it has ended and waits for its parent."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    # The name of the program stands in parentheses and may itself hold spaces and parentheses.
    fields = line.rpartition(")")[2].split()
    return 0 if fields[0] in {"Z", "X"} else int(fields[19])
