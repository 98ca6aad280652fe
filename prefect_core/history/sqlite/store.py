"""The history in a SQLite file, for writing and reading."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from prefect_core.history.process import ProcessIdentity
from prefect_core.history.rows import AttemptRow, FlowRow, FlowRunRow, LogRow, StateRow, TaskRunRow
from prefect_core.history.sqlite import read, reopen, stored, upkeep
from prefect_core.history.sqlite.connection import FILE_NAME
from prefect_core.history.sqlite.control import SqliteControl
from prefect_core.history.sqlite.housekeeping import SqliteHousekeeping
from prefect_core.history.sqlite.limits import SqliteLimits
from prefect_core.history.sqlite.locks import SqliteLocks
from prefect_core.history.sqlite.migrate import Migration
from prefect_core.history.sqlite.owed import SqliteEndings
from prefect_core.history.sqlite.writer import SqliteWriter
from prefect_core.history.store import EVERY_RUN, HistoryStats, RunFilter
from prefect_core.history.stored import (
    CacheRow,
    EarlierCall,
    IdentityRow,
    KeptRow,
    Reopened,
    ResultRow,
    UnheldRow,
    VerdictRow,
)


class SqliteStore(SqliteHousekeeping, SqliteEndings, SqliteWriter):
    """A `HistoryStore` in the file `history.db` of a folder."""

    is_shared = True

    def __init__(self, folder: Path, known_migrations: list[Migration] | None = None) -> None:
        super().__init__(folder, known_migrations)
        self._prepare_rooms()

    def _prepare_rooms(self) -> None:
        self._locks: SqliteLocks | None = None
        self._limits: SqliteLimits | None = None
        self._opening_locks = threading.Lock()
        self._control = SqliteControl(self._connections)

    @classmethod
    def beside(cls, writer: SqliteWriter) -> SqliteStore:
        """Return a store that reads through the connections of a writer."""
        store = cls.__new__(cls)
        store._connections = writer._connections
        store._prepare_rooms()
        return store

    def flow_runs(self, wanted: RunFilter = EVERY_RUN) -> list[FlowRunRow]:
        with self._connections.reading() as connection:
            return read.flow_runs(connection, wanted)

    def flow_run(self, name: str | int) -> FlowRunRow:
        with self._connections.reading() as connection:
            return read.flow_run(connection, name)

    def task_runs(self, wanted: RunFilter = EVERY_RUN) -> list[TaskRunRow]:
        with self._connections.reading() as connection:
            return read.task_runs(connection, wanted)

    def task_run(self, name: str | int) -> TaskRunRow:
        with self._connections.reading() as connection:
            return read.task_run(connection, name)

    def states(self, key: int) -> list[StateRow]:
        with self._connections.reading() as connection:
            return read.states(connection, key)

    def attempts(self, key: int) -> list[AttemptRow]:
        with self._connections.reading() as connection:
            return read.attempts(connection, key)

    def children(self, key: int) -> list[FlowRunRow]:
        with self._connections.reading() as connection:
            return read.children(connection, key)

    def logs(
        self, key: int | None = None, *, tree: bool = False, level: int = 0, limit: int | None = None
    ) -> list[LogRow]:
        with self._connections.reading() as connection:
            return read.logs(connection, key, tree=tree, level=level, limit=limit)

    def counts_by_state(self, flow_run: int) -> dict[str, int]:
        with self._connections.reading() as connection:
            return read.counts_by_state(connection, flow_run)

    def counts_by_worker(self, flow_run: int) -> dict[str, int]:
        with self._connections.reading() as connection:
            return read.counts_by_worker(connection, flow_run)

    def flows(self) -> list[FlowRow]:
        with self._connections.reading() as connection:
            return read.flows(connection)

    def identity(self, run: int) -> IdentityRow | None:
        with self._connections.reading() as connection:
            return stored.identity(connection, run)

    def kept(self, run: int) -> KeptRow | None:
        with self._connections.reading() as connection:
            return stored.kept(connection, run)

    def verdicts(self, run: int) -> list[VerdictRow]:
        with self._connections.reading() as connection:
            return stored.verdicts(connection, run)

    def calls_at(self, root: int, site: bytes, before_us: int) -> list[IdentityRow]:
        with self._connections.reading() as connection:
            return stored.calls_at(connection, root, site, before_us)

    def known_identities(self, root: int) -> dict[bytes, int]:
        with self._connections.reading() as connection:
            return stored.known_identities(connection, root)

    def known_calls(self, runs: Sequence[int]) -> list[EarlierCall]:
        with self._connections.reading() as connection:
            return stored.known_calls(connection, runs)

    def highest_indexes(self, root: int) -> dict[tuple[int, str], int]:
        with self._connections.reading() as connection:
            return stored.highest_indexes(connection, root)

    def unheld(self, run: int) -> UnheldRow | None:
        with self._connections.reading() as connection:
            return stored.unheld(connection, run)

    def result(self, key: int) -> ResultRow | None:
        with self._connections.reading() as connection:
            return stored.result(connection, key)

    def result_at(self, storage: str, key: str, sha256: bytes) -> int | None:
        with self._connections.reading() as connection:
            return stored.result_at(connection, storage, key, sha256)

    def locks(self) -> SqliteLocks:
        with self._opening_locks:
            if self._locks is None:
                self._locks = SqliteLocks(self._connections.folder)
            return self._locks

    def control(self) -> SqliteControl:
        return self._control

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Tell whether a folder holds a history."""
        return (folder / FILE_NAME).is_file()

    def limits_alone(self) -> SqliteLimits:
        """Return the limits for who keeps them open when this store is closed."""
        return SqliteLimits(self._connections.folder)

    def limits(self) -> SqliteLimits:
        with self._opening_locks:
            if self._limits is None:
                self._limits = SqliteLimits(self._connections.folder)
            return self._limits

    def close(self) -> None:
        self._control.close()
        with self._opening_locks:
            opened = (self._locks, self._limits)
            self._locks = self._limits = None
        for one in opened:
            if one is not None:
                one.close()
        super().close()

    def cached(self, key: str) -> CacheRow | None:
        with self._connections.reading() as connection:
            return stored.cached(connection, key)

    def results(self, flow_run: int | None = None, limit: int | None = None) -> list[ResultRow]:
        with self._connections.reading() as connection:
            return stored.results(connection, flow_run, limit)

    def reopen_run(
        self,
        run: int,
        process: int,
        asked_by: str,
        is_gone: Callable[[ProcessIdentity], bool | None],
        as_of_us: int | None = None,
    ) -> Reopened:
        return reopen.reopen(self._connections, run, process, asked_by, is_gone, as_of_us)

    def delete_flow_run(self, key: int) -> int:
        return upkeep.delete_flow_run(self._connections, key)

    def prune(self, before_us: int, state_types: Sequence[str] = ()) -> int:
        return upkeep.prune(self._connections, before_us, state_types)

    def stats(self) -> HistoryStats:
        return upkeep.stats(self._connections)

    def backup(self, path: Path) -> None:
        upkeep.backup(self._connections, path)

    def check(self) -> list[str]:
        return upkeep.check(self._connections)
