"""The SQLite that is used: the one of package pysqlite3 (extra `sqlite`), which is newer, else the one Python was built with.

Never both for one file in one process: a lock is the process's, so neither would see the other's, and closing a file in one of them
drops the locks of the other. Whoever opens the history's file inside this process, tests too, takes `sqlite3` from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
else:
    try:
        from pysqlite3 import dbapi2 as sqlite3
    except ImportError:
        import sqlite3

__all__ = ["VERSION", "Error", "connect", "has_wal_reset_race", "is_busy", "is_damage", "sqlite3"]

Error = sqlite3.Error
VERSION: str = sqlite3.sqlite_version

_BUSY, _LOCKED, _CORRUPT, _NOT_A_DATABASE = 5, 6, 11, 26


def has_wal_reset_race() -> bool:
    """Tell whether a checkpoint beside a commit may lose that commit, as it may before 3.51.3 (and 3.50.7, 3.44.6)."""
    major, minor, patch = map(int, VERSION.split(".")[:3])
    return (major, minor, patch) < (3, 51, 3) and not ((minor == 50 and patch >= 7) or (minor == 44 and patch >= 6))


def is_busy(error: BaseException) -> bool:
    """Tell whether somebody else merely holds a lock."""
    return _code(error) in (_BUSY, _LOCKED)


def is_damage(error: BaseException) -> bool:
    """Tell whether the file is no sound database."""
    return _code(error) in (_CORRUPT, _NOT_A_DATABASE)


def _code(error: BaseException) -> int:
    code: int = getattr(error, "sqlite_errorcode", 0)
    if not code and isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return _BUSY
    return code & 0xFF


def connect(path: str, *, readonly: bool = False, busy_seconds: float = 0.5) -> sqlite3.Connection:
    """Open a connection that may pass from thread to thread (one at a time), commits by hand and never checkpoints on its own.

    It waits `busy_seconds` for a lock. The file must exist.
    """
    connection = sqlite3.connect(
        f"file:{_quoted(path)}?mode=rw",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=64,
    )
    try:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA cache_size=-16000")
        if readonly:
            connection.execute("PRAGMA query_only=1")
    except BaseException:
        connection.close()
        raise
    return connection


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
