"""The checks of `prefect-core doctor`, one function each, in the order in which they are shown."""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from prefect_core import clock, history, settings
from prefect_core.cli.output import local, size
from prefect_core.errors import ConfigurationError, HistoryError
from prefect_core.history.sqlite import driver
from prefect_core.history.sqlite.home import NETWORK_FILE_SYSTEMS, file_system
from prefect_core.history.store import RunFilter

OK, WARN, FAIL = "ok", "warn", "fail"
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
LITTLE_DISK, TOO_LITTLE_DISK = 1 << 30, 64 << 20
_DAY_US = 86_400_000_000


class Finding(NamedTuple):
    """What a check found: how bad it is, what is there, and what to do about it."""

    name: str
    status: str
    detail: str
    advice: str = ""


def examine() -> Iterator[Finding]:
    """Make all checks. The history's folder is made if it is missing, as every other command would do."""
    yield _python()
    yield _platform()
    yield from _packages()
    yield _sqlite()
    try:
        home = settings.current().home
    except ConfigurationError as error:
        yield Finding(
            "settings", FAIL, str(error), "Correct the setting; `prefect-core config view` shows where each comes from."
        )
        return
    yield Finding("settings", OK, "all can be read")
    for check in (_home, _file_system, _write_ahead_log, _disk, _history, _clock):
        yield _guarded(check, home)


def _guarded(check: Callable[[Path], Finding], home: Path) -> Finding:
    try:
        return check(home)
    except (OSError, driver.Error, HistoryError) as error:
        name = check.__name__.strip("_").replace("_", " ")
        advice = "" if isinstance(error, HistoryError) else "Set PREFECT_CORE_HOME to a folder that can be written."
        return Finding(name, FAIL, str(error), advice)


def _python() -> Finding:
    version = sys.version_info[:2]
    shown = f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})"
    if version < OLDEST_PYTHON:
        return Finding("python", FAIL, shown, "prefect_core needs Python 3.11 or newer.")
    if version > NEWEST_PYTHON:
        return Finding("python", WARN, shown, "prefect_core is tested with Python 3.11, 3.12 and 3.13.")
    return Finding("python", OK, shown)


def _platform() -> Finding:
    shown = f"{platform.system()} {platform.release()} ({platform.machine()}), {os.cpu_count()} CPUs"
    if os.name != "posix":
        return Finding("platform", FAIL, shown, "prefect_core needs a POSIX system.")
    return Finding("platform", OK, shown)


def _packages() -> Iterator[Finding]:
    """Compare what is installed with what our own metadata asks for; extras that are absent are no concern."""
    for requirement in metadata.requires("prefect_core") or ():
        matched = re.match(r"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?\s*(?:>=\s*([\d.]+))?", requirement)
        is_extra = "extra ==" in requirement
        if matched is None or (
            is_extra and not re.search(r"extra == ['\"](dask|ray|sqlite|terminal)['\"]", requirement)
        ):
            continue
        name, bound = matched.groups()
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            if not is_extra:
                yield Finding(f"package {name}", FAIL, "not installed", f"Install it: pip install '{name}>={bound}'")
            continue
        if bound is not None and _numbers(version) < _numbers(bound):
            advice = f"prefect_core needs {bound} or newer: pip install '{name}>={bound}'"
            yield Finding(f"package {name}", FAIL, version, advice)
        else:
            yield Finding(f"package {name}", OK, version)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _sqlite() -> Finding:
    shown = f"{driver.VERSION} ({driver.sqlite3.__name__})"
    if driver.has_wal_reset_race():
        return Finding(
            "sqlite",
            WARN,
            f"{shown}, which can damage a file when a checkpoint meets writers of other processes (mended in 3.51.3)",
            "prefect_core keeps the two apart itself; for a newer SQLite: pip install 'prefect_core[sqlite]'",
        )
    return Finding("sqlite", OK, shown)


def _home(home: Path) -> Finding:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = home.stat()
    mode = stat.S_IMODE(status.st_mode)
    shown = f"{home}, mode {mode:04o}"
    if not os.access(home, os.W_OK | os.X_OK):
        return Finding(
            "home",
            FAIL,
            f"{shown}: can't be written",
            "Make the folder writable, or set PREFECT_CORE_HOME to one that is.",
        )
    if status.st_uid != os.getuid():
        return Finding(
            "home", WARN, f"{shown}, owned by user {status.st_uid}", "Its owner should be the user who runs the flows."
        )
    if mode & 0o077:
        return Finding(
            "home", WARN, f"{shown}: other users of this machine can look into it", f"Close it: chmod 700 {home}"
        )
    return Finding("home", OK, shown)


def _file_system(home: Path) -> Finding:
    kind = file_system(home)
    if kind in NETWORK_FILE_SYSTEMS:
        return Finding(
            "file system",
            FAIL,
            f"{kind}, a network file system, where SQLite's write-ahead log does not work",
            "Set PREFECT_CORE_HOME to a folder on a local disk.",
        )
    if kind in {"tmpfs", "ramfs"}:
        shown = f"{kind}: the history is gone when the machine stops"
        return Finding("file system", WARN, shown, "Set PREFECT_CORE_HOME to a folder on a disk.")
    return Finding("file system", OK, kind or "unknown to this system")


def _write_ahead_log(home: Path) -> Finding:
    """Try it in a file of its own, so that a damaged history doesn't stand in the way."""
    with tempfile.TemporaryDirectory(prefix="doctor-", dir=home) as folder:
        path = Path(folder) / "trial.db"
        path.touch(mode=0o600)
        connection = driver.connect(str(path))
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            connection.execute("CREATE TABLE trial (value)")
        finally:
            connection.close()
    if mode != "wal":
        shown = f"SQLite chose journal mode {mode!r} instead"
        return Finding("write ahead log", FAIL, shown, "Set PREFECT_CORE_HOME to a folder on a local disk.")
    return Finding("write ahead log", OK, "works")


def _disk(home: Path) -> Finding:
    free = shutil.disk_usage(home).free
    status = FAIL if free < TOO_LITTLE_DISK else WARN if free < LITTLE_DISK else OK
    advice = "" if status == OK else "Make room, or delete old runs: prefect-core db prune --older-than 30d"
    return Finding("disk", status, f"{size(free)} free", advice)


def _history(home: Path) -> Finding:
    store = history.open_store(home)
    try:
        stats = store.stats()
    finally:
        store.close()
    runs = f"{stats.rows['flow_run']:,} flow runs, {stats.rows['task_run']:,} task runs"
    shown = f"schema {stats.schema_version}, {runs}, {size(stats.bytes)}"
    if stats.incomplete_since_us is not None:
        since = local(clock.to_datetime(stats.incomplete_since_us))
        shown += f"; {stats.missing_rows} rows could not be written since {since}"
        return Finding("history", WARN, shown, "See that the disk has room and is in order.")
    return Finding("history", OK, shown)


def _clock(home: Path) -> Finding:
    """Compare the clock with the newest run: one that is ahead of now was recorded when the clock was wrong, or it is wrong now."""
    now = clock.to_datetime(clock.now_us())
    shown = f"{now.astimezone():%Y-%m-%d %H:%M:%S %Z}"
    store = history.open_store(home)
    try:
        newest = store.flow_runs(RunFilter(limit=1))
    finally:
        store.close()
    if newest and newest[0].created_us > clock.now_us() + _DAY_US // 24:
        shown += f", but the newest run was created {local(newest[0].created)}"
        return Finding("clock", WARN, shown, "Set the clock of this machine.")
    return Finding("clock", OK, shown)
