"""Makes sure, before user code starts, that the folder of the history is one where SQLite can be trusted.

Every error here is a `HistoryError` that names PREFECT_CORE_HOME, since another folder is the cure for most of them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from prefect_core.errors import HistoryError

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fuse.blobfuse2",
        "fuse.ceph-fuse",
        "fuse.cephfs",
        "fuse.curlftpfs",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.goofys",
        "fuse.juicefs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "panfs",
        "pvfs2",
        "smb3",
        "smbfs",
        "wekafs",
    }
)
"""File systems, as the kernel names them, whose files can be written from several machines.

SQLite's answer to `PRAGMA journal_mode=WAL` tells too little: on sshfs it says "wal", and on one machine it even works.
"""

MOUNTS = Path("/proc/self/mountinfo")


def prepare(home: Path, database: Path) -> None:
    """Create the folder (0700) and an empty database file (0600) where they are missing, and refuse what can't work."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_network(home)
        # A file that is there is never opened here: closing it would drop the locks that SQLite holds for this process.
        with suppress(FileExistsError):
            os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise HistoryError(
            f"The history can't be kept in {home}: {error.strerror or error} ({error.filename or database}). "
            "Make the folder writable, or set PREFECT_CORE_HOME to one that is."
        ) from error
    if not database.is_file():
        raise HistoryError(
            f"The history can't be kept in {home}: {database} is no file. Set PREFECT_CORE_HOME to another folder."
        )


def refuse_network(home: Path) -> None:
    """Raise `HistoryError` if the folder lies on a network file system, where the write-ahead log can't work."""
    kind = file_system(home)
    if kind in NETWORK_FILE_SYSTEMS:
        raise HistoryError(
            f"The history can't be kept in {home}: the folder is on a network file system ({kind}), where SQLite's write-ahead log does "
            "not work. Set PREFECT_CORE_HOME to a folder on a local disk."
        )


def file_system(folder: Path, mounts: Path = MOUNTS) -> str:
    """Return the kernel's name of the file system that holds `folder`, or "" where the kernel does not tell."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    place = os.path.realpath(folder)
    best, kind = -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        point = _unescaped(fields[4]) if len(fields) > 4 else ""
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        # Of two mounts on one point the later one counts.
        if inside and len(point) >= best:
            best, kind = len(point), right.split(" ")[0]
    return kind


def damaged(database: Path, reason: str) -> HistoryError:
    """Return the error for a file that is no sound database."""
    return HistoryError(
        f"The history file {database} is damaged: {reason}. Move it away and put a copy made by `prefect-core db backup` in its place, "
        "or set PREFECT_CORE_HOME to another folder to begin a new history."
    )


def _unescaped(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
