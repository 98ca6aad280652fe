"""Brings a database file to the schema of this version, one numbered file of `schema/sqlite` per transaction.

The number of the last file applied stands in `PRAGMA user_version`, and with its name and checksum in table `schema_migration`; both
change in the transaction that applies the file, so an interrupted migration simply goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prefect_core import clock
from prefect_core.crash_points import crash_point
from prefect_core.errors import HistoryError
from prefect_core.history.sqlite import driver

if TYPE_CHECKING:
    import sqlite3

# Not importlib.resources, which takes longer to load than the files take to read.
_FOLDER = Path(__file__).parent.parent / "schema" / "sqlite"
_LEDGER = """CREATE TABLE IF NOT EXISTS schema_migration (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_us INTEGER NOT NULL)"""


class Migration(NamedTuple):
    """One numbered SQL file."""

    version: int
    name: str
    sql: str


def migrations() -> list[Migration]:
    """Return the migrations of this version of prefect_core, in order."""
    return [
        Migration(int(file.name[:4]), file.name, file.read_text(encoding="utf-8"))
        for file in sorted(_FOLDER.glob("*.sql"))
    ]


def version_of(connection: sqlite3.Connection) -> int:
    """Return the number of the last migration applied to the file."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def migrate(connection: sqlite3.Connection, known: list[Migration], begin: Callable[[], None]) -> None:
    """Apply the missing ones of `known`. `begin` starts a write transaction, waiting for others.

    Raises `HistoryError` for a file that a newer version has migrated.
    """
    for migration in known[version_of(connection) :]:
        begin()
        try:
            # Somebody else may have applied it while we waited.
            if version_of(connection) < migration.version:
                _apply(connection, migration)
            crash_point("migrate.before_commit")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        crash_point("migrate.after_commit")
    newest = known[-1].version
    if (found := version_of(connection)) > newest:
        raise HistoryError(
            f"The history was written by a newer prefect_core (schema {found}, this version knows up to {newest}). "
            "Upgrade prefect_core, or set PREFECT_CORE_HOME to another folder."
        )


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    connection.execute(_LEDGER)
    for statement in statements(migration.sql):
        connection.execute(statement)
        crash_point("migrate.statement")
    checksum = hashlib.sha256(migration.sql.encode()).hexdigest()
    row = (migration.version, migration.name, checksum, clock.now_us())
    connection.execute("INSERT INTO schema_migration VALUES (?, ?, ?, ?)", row)
    connection.execute(f"PRAGMA user_version={migration.version:d}")


def statements(sql: str) -> list[str]:
    """Split the text of a migration into its statements; each begins on a line of its own."""
    found: list[str] = []
    begun = ""
    for line in sql.splitlines(keepends=True):
        begun += line
        if driver.sqlite3.complete_statement(begun):
            found.append(begun.strip())
            begun = ""
    return found
